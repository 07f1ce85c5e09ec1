// Package probe asks a listener which certificate it serves. It believes
// nothing of the answer but the certificate's bytes: whether it is trusted, has
// ended or names another host is not its business, so that an old, foreign or
// broken certificate is seen as what it is.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"github.com/certctl/certctl"
)

// timeout bounds one handshake.
const timeout = 3 * time.Second

// TLS shakes hands at an address (see Address) with serverName as SNI (none when
// empty) and returns the leaf's fingerprint. A server that then wants a client
// certificate, or anything else after its own, has answered already.
func TLS(ctx context.Context, address, serverName string) (certctl.Served, error) {
	served := certctl.Served{Address: address, ServerName: serverName}
	at, err := ParseAddress(address)
	if err != nil {
		return served, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", at.HostPort)
	if err != nil {
		return served, err
	}
	defer plain.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := plain.SetDeadline(deadline); err != nil {
			return served, err
		}
	}
	if start := starters[at.Protocol]; start != nil {
		if err := start(plain); err != nil {
			return served, err
		}
	}
	err = tls.Client(plain, &tls.Config{
		ServerName: serverName, MinVersion: tls.VersionTLS10,
		InsecureSkipVerify: true, //nolint:gosec // see the package comment
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			served.Fingerprint = certctl.DigestOf(raw[0])
			return nil
		},
	}).HandshakeContext(ctx)
	if !served.Fingerprint.IsZero() {
		return served, nil
	}
	if err == nil {
		err = certctl.Errorf(certctl.Unavailable, "%s sent no certificate", address)
	}
	return served, err
}
