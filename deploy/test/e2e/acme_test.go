package e2e

import (
	"crypto/tls"
	"net/http"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// A certificate of an ACME server, from a POST to a handshake: the server's own
// listener answers for the proof, the node holds the key.
func TestAnACMECertificateIsServed(t *testing.T) {
	t.Parallel()
	ca := acmetest.Start(t, acmetest.Options{NonceReject: 5})
	listen := ca.Challenges.Addr().String()
	if err := ca.Challenges.Close(); err != nil {
		t.Fatal(err)
	}
	s := startInstallation(t, &local.Installation{ServerEnv: []string{"CERTCTL_ACME_HTTP_LISTEN=" + listen}})
	s.call(http.MethodPost, "/api/v1/issuers", map[string]any{
		"name": "pebble", "kind": "acme", "settings": map[string]any{
			"directory": ca.Directory, "ca_bundle": ca.CABundle, "allow_private_networks": true, "terms_of_service_agreed": true,
		},
	}, nil)
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "shop", "dns_names": []string{"shop.example.com", "www.shop.example.com"}, "issuer": "pebble", "targets": []string{"web"},
	}, nil)
	s.eventually(60*time.Second, "the certificate is active", func() bool { return s.certificate("shop").Status.State == "active" })
	first := s.versions("shop")[0]
	conn, err := tls.Dial("tcp", s.NginxAddress(), &tls.Config{RootCAs: ca.Roots, ServerName: "www.shop.example.com", MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if got := fingerprint(conn.ConnectionState().PeerCertificates[0]); got != first.Fingerprint {
		t.Errorf("nginx serves %s, the API says %s", got, first.Fingerprint)
	}
	if n := ca.Count(acmetest.NewOrder); n != 1 {
		t.Errorf("%d orders at the CA", n)
	}
	answer, err := http.Get("http://" + listen + "/.well-known/acme-challenge/not-one-of-ours") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("status %d for a token that is not ours", answer.StatusCode)
	}
}
