// Package probe asks a listener which certificate it serves. It believes
// nothing of the answer but the certificate's bytes: whether it is trusted, has
// ended or names another host is not its business, so that an old, foreign or
// broken certificate is seen as what it is.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/certctl/certctl"
)

// timeout bounds one handshake.
const timeout = 3 * time.Second

// Signature is how a server signs with the key of its leaf. One that has a leaf of
// each kind shows that which fits what it is offered.
type Signature int

// Signatures that can be asked for.
const (
	AnySignature Signature = iota
	RSA
	ECDSA // and Ed25519, which TLS 1.2 counts among these
)

// ErrOnlyTLS13 is for a listener that cannot be asked for one of its leaves: there,
// TLS 1.3 lets it choose, and it takes no other version.
var ErrOnlyTLS13 = errors.New("the listener speaks TLS 1.3 only")

// suites are those in which a server must sign so, down to TLS 1.0.
var suites = map[Signature][]uint16{
	RSA: {
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	},
	ECDSA: {
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	},
}

// TLS shakes hands at an address (see Address) with serverName as SNI (none when
// empty) and returns the leaf's fingerprint. A server that then wants a client
// certificate, or anything else after its own, has answered already.
func TLS(ctx context.Context, address, serverName string) (certctl.Served, error) {
	served, _, err := shake(ctx, address, serverName, 0, nil)
	return served, err
}

// TLSOf is TLS for the leaf of one kind, of a server that may have another, too. Go
// does not restrict the signatures of TLS 1.3, so that it offers TLS 1.2 at most. What
// a listener shows that does not take that comes with ErrOnlyTLS13: it is one of its
// leaves.
func TLSOf(ctx context.Context, address, serverName string, signature Signature) (certctl.Served, error) {
	if signature == AnySignature {
		return TLS(ctx, address, serverName)
	}
	served, _, err := shake(ctx, address, serverName, tls.VersionTLS12, suites[signature])
	if err == nil || !refused(err) {
		return served, err
	}
	if _, _, other := shake(ctx, address, serverName, tls.VersionTLS12, nil); !refused(other) {
		return served, err // it speaks TLS 1.2, or it does not answer
	}
	chosen, version, anyErr := shake(ctx, address, serverName, 0, nil)
	if anyErr == nil && version == tls.VersionTLS13 {
		return chosen, certctl.Wrap(certctl.Unavailable, ErrOnlyTLS13, "%s speaks TLS 1.3 only", address)
	}
	return served, err
}

// refused reports whether a server has answered, by an alert.
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// shake is one handshake, up to the server's certificate. Without a highest version
// it is Go's, and so without suites.
func shake(ctx context.Context, address, serverName string, highest uint16, suites []uint16) (served certctl.Served, version uint16, err error) {
	served = certctl.Served{Address: address, ServerName: serverName}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	plain, err := dial(ctx, address)
	if err != nil {
		return served, 0, err
	}
	defer plain.Close()
	err = tls.Client(plain, &tls.Config{
		ServerName: serverName, MinVersion: tls.VersionTLS10, MaxVersion: highest, CipherSuites: suites,
		InsecureSkipVerify: true, //nolint:gosec // see the package comment
		VerifyConnection: func(state tls.ConnectionState) error {
			served.Fingerprint, version = certctl.DigestOf(state.PeerCertificates[0].Raw), state.Version
			return nil
		},
	}).HandshakeContext(ctx)
	if !served.Fingerprint.IsZero() {
		return served, version, nil
	}
	if err == nil {
		err = certctl.Errorf(certctl.Unavailable, "%s sent no certificate", address)
	}
	return served, version, err
}

// dial connects, up to where TLS begins.
func dial(ctx context.Context, address string) (net.Conn, error) {
	at, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", at.HostPort)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		err = plain.SetDeadline(deadline)
	}
	if start := starters[at.Protocol]; err == nil && start != nil {
		err = start(plain)
	}
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return plain, nil
}
