package challenge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// protocol is what a CA asks for within the handshake (RFC 8737 section 6.2).
const protocol = "acme-tls/1"

// acceptPause is how long nothing is accepted after a failure: there may be no
// descriptors left, for example.
const acceptPause = time.Second

// acmeIdentifier is the extension that holds the proof (RFC 8737 section 3).
var acmeIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}

type certificate = tls.Certificate

// makeCertificate makes the self-signed certificate that proves a name. Its key
// lives as long as the proof, in memory.
func makeCertificate(p certctl.Proof) (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "no key for the proof of %s can be made", p.Identifier)
	}
	digest := sha256.Sum256([]byte(p.Answer))
	proof, err := asn1.Marshal(digest[:])
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the proof of %s cannot be encoded", p.Identifier)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ACME challenge"},
		NotBefore: time.Now().Add(-certctl.Day), NotAfter: time.Now().Add(2 * certctl.KeepProofs),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		ExtraExtensions: []pkix.Extension{{Id: acmeIdentifier, Critical: true, Value: proof}},
	}
	if addr, err := netip.ParseAddr(p.Identifier); err == nil {
		template.IPAddresses = []net.IP{addr.Unmap().AsSlice()}
	} else {
		template.DNSNames = []string{p.Identifier}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the certificate that proves %s cannot be made", p.Identifier)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// serverName is what a CA asks for to see the proof of a name: the name, and for an
// address the name that leads from it (RFC 8738 section 6).
func serverName(identifier string) string {
	addr, err := netip.ParseAddr(identifier)
	if err != nil {
		return identifier
	}
	addr = addr.Unmap()
	var labels []string
	if addr.Is4() {
		for _, b := range addr.As4() {
			labels = append(labels, fmt.Sprint(b))
		}
		slices.Reverse(labels)
		return strings.Join(append(labels, "in-addr.arpa"), ".")
	}
	for _, b := range addr.As16() {
		labels = append(labels, fmt.Sprintf("%x", b>>4), fmt.Sprintf("%x", b&15))
	}
	slices.Reverse(labels)
	return strings.Join(append(labels, "ip6.arpa"), ".")
}

// serveTLS shows proofs of tls-alpn-01 until the listener is closed. Who does not
// ask for a proof gets no handshake, and nobody gets anything after it.
func (k *Keeper) serveTLS(l net.Listener) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{protocol}, SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert := k.certificateFor(hello.ServerName)
			if cert == nil || !slices.Contains(hello.SupportedProtos, protocol) {
				return nil, errors.New("nothing is proven here")
			}
			return cert, nil
		},
	}
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			<-time.After(acceptPause)
			continue
		}
		go func() {
			defer func() { _ = conn.Close() }()
			_ = tls.Server(conn, config).HandshakeContext(context.Background()) // strangers' failures are theirs; it has a deadline
		}()
	}
}
