package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// One certificate from a POST to a handshake; then renewed with a new key; then
// a node whose nginx is broken keeps serving what it had, says why, and heals
// by itself.
func TestCertificateIsServedRenewedAndRolledBack(t *testing.T) {
	t.Parallel()
	s := start(t)

	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "shop", "dns_names": []string{"shop.example.com", "www.shop.example.com"},
		"ip_addresses": []string{"127.0.0.1"}, "issuer": "local", "targets": []string{"web"},
	}, nil)
	s.eventually(20*time.Second, "the certificate is active", func() bool { return s.certificate("shop").Status.State == "active" })
	first := s.versions("shop")[0]
	if got := s.servedFingerprint("www.shop.example.com"); got != first.Fingerprint {
		t.Fatalf("nginx serves %s, the API says %s", got, first.Fingerprint)
	}

	s.call(http.MethodPost, "/api/v1/certificates/shop/renew", map[string]any{}, nil)
	s.eventually(20*time.Second, "the new leaf is served", func() bool {
		return s.servedFingerprint("shop.example.com") != first.Fingerprint
	})
	s.eventually(20*time.Second, "the renewal is recorded", func() bool { return s.certificate("shop").Status.State == "active" })
	second := s.versions("shop")[0]
	if second.SPKI == first.SPKI {
		t.Error("the renewal did not make a new key")
	}
	s.settles("shop.example.com", second.Fingerprint)
	s.breakAndRepair(second)
}

// settles waits until nginx serves a leaf: its workers of before a reload answer
// for some moments more.
func (s *stack) settles(name, fingerprint string) {
	s.t.Helper()
	s.eventually(10*time.Second, "nginx serves what the API says, "+fingerprint, func() bool { return s.servedFingerprint(name) == fingerprint })
}

// breakAndRepair puts a mistake into nginx's configuration, renews, and takes
// the mistake out again.
func (s *stack) breakAndRepair(served version) {
	s.t.Helper()
	config := s.Nginx.ConfigFile()
	good, err := os.ReadFile(config)
	s.must(err)
	s.must(os.WriteFile(config, append(good, "no_such_directive on;\n"...), 0o600))
	s.call(http.MethodPost, "/api/v1/certificates/shop/renew", map[string]any{}, nil)
	s.eventually(30*time.Second, "the deployment is rolled back", func() bool {
		return s.certificate("shop").Status.State == "degraded"
	})
	var failed deployment
	for _, d := range s.certificate("shop").Status.Deployments {
		if d.State == "rolled_back" {
			failed = d
		}
	}
	if !strings.Contains(failed.Message, "no_such_directive") {
		s.t.Errorf("the reason %q / %q is not nginx's own", failed.Reason, failed.Message)
	}
	if got := s.servedFingerprint("shop.example.com"); got != served.Fingerprint {
		s.t.Errorf("nginx serves %s instead of the previous %s", got, served.Fingerprint)
	}

	s.must(os.WriteFile(config, good, 0o600))
	s.eventually(2*time.Minute, "it heals by itself", func() bool { return s.certificate("shop").Status.State == "active" })
	s.settles("shop.example.com", s.versions("shop")[0].Fingerprint)
	s.noTemporaryFiles()
}

// noTemporaryFiles looks for what an interrupted installation could leave.
func (s *stack) noTemporaryFiles() {
	s.t.Helper()
	s.must(filepath.WalkDir(filepath.Join(s.Dir, "nginx", "tls"), func(path string, _ os.DirEntry, err error) error {
		if name := filepath.Base(path); strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".new") {
			s.t.Errorf("%s was left behind", path)
		}
		return err
	}))
}

// A client that keeps its key sends a CSR and fetches the chain, and the next
// cycle waits for the next CSR.
func TestClientKeepsItsKey(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{"name": "api", "issuer": "local", "csr": newCSR(t, "api.example.com")}, nil)
	var chain []byte
	s.call(http.MethodGet, "/api/v1/certificates/api/chain.pem?wait=10s", nil, &chain)
	certificates := parsePEM(t, chain)
	leaf, intermediates := certificates[0], x509.NewCertPool()
	for _, c := range certificates[1:] {
		intermediates.AddCert(c)
	}
	roots := x509.NewCertPool()
	pemRoot, err := os.ReadFile(s.Server.CAFile)
	s.must(err)
	roots.AppendCertsFromPEM(pemRoot)
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "api.example.com", Roots: roots, Intermediates: intermediates}); err != nil {
		t.Fatal(err)
	}

	s.call(http.MethodPost, "/api/v1/certificates/api/csr", map[string]any{"csr": newCSR(t, "api.example.com")}, nil)
	s.eventually(20*time.Second, "a second version", func() bool { return len(s.versions("api")) == 2 })
}

func newCSR(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}
