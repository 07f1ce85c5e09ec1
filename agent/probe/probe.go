// Package probe asks a listener which certificate it serves. It believes
// nothing of the answer but the certificate's bytes: whether it is trusted, has
// ended or names another host is not its business, so that an old, foreign or
// broken certificate is seen as what it is.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/certctl/certctl"
)

// timeout bounds one handshake.
const timeout = 3 * time.Second

// TLS shakes hands at address with serverName as SNI (none when empty) and
// returns the leaf's fingerprint. A server that then wants a client certificate,
// or anything else after its own, has answered already.
func TLS(ctx context.Context, address, serverName string) (certctl.Served, error) {
	served := certctl.Served{Address: address, ServerName: serverName}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{
		ServerName: serverName, MinVersion: tls.VersionTLS10,
		InsecureSkipVerify: true, //nolint:gosec // see the package comment
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			served.Fingerprint = certctl.DigestOf(raw[0])
			return nil
		},
	}}
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		err = connection.Close()
	}
	if !served.Fingerprint.IsZero() {
		return served, nil
	}
	if err == nil {
		err = certctl.Errorf(certctl.Unavailable, "%s sent no certificate", address)
	}
	return served, err
}
