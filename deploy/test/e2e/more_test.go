package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A certificate from elsewhere, with its key, is served by the node's nginx; its
// renewal here is for a key that the node makes.
func TestAnImportIsServedAndThenRenewedHere(t *testing.T) {
	t.Parallel()
	s := start(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "old"}, DNSNames: []string{"old.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	s.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	s.must(err)
	s.call(http.MethodPost, "/api/v1/certificates/import", map[string]any{
		"name": "old", "issuer": "local", "targets": []string{"web"},
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}, nil)
	sum := sha256.Sum256(der)
	s.eventually(30*time.Second, "the import is served", func() bool { return s.anyServed("old.example.com") == hex.EncodeToString(sum[:]) })
	s.call(http.MethodPost, "/api/v1/certificates/old/renew", map[string]any{}, nil)
	s.eventually(30*time.Second, "it is renewed with a key of the node's own", func() bool {
		versions := s.versions("old")
		return len(versions) == 2 && versions[0].SPKI != versions[1].SPKI && s.servedFingerprint("old.example.com") == versions[0].Fingerprint
	})
	for _, log := range []string{s.Server.Process().Log(), s.Agent.Process().Log()} {
		if strings.Contains(log, "PRIVATE KEY") {
			t.Error("a private key is in a log")
		}
	}
}

// anyServed is the fingerprint of what nginx serves, whoever signed it.
func (s *stack) anyServed(name string) string {
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}} //nolint:gosec // the leaf is compared
	conn, err := dialer.DialContext(s.t.Context(), "tcp", s.NginxAddress())
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	sum := sha256.Sum256(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw) //nolint:forcetypeassert // a tls.Dialer makes nothing else
	return hex.EncodeToString(sum[:])
}

// Whoever speaks less than TLS 1.3 is refused; probes need no key, and the
// revocation lists are there from the first moment, over plain HTTP.
func TestListeners(t *testing.T) {
	t.Parallel()
	s := start(t)
	old := &tls.Config{MaxVersion: tls.VersionTLS12, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // it must fail
	if _, err := (&tls.Dialer{Config: old}).DialContext(t.Context(), "tcp", s.Server.Listen); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v", err)
	}
	client, err := s.Server.Client()
	s.must(err)
	for path, status := range map[string]int{"/health": 200, "/ready": 200, "/livez": 200, "/readyz": 200, "/api/v1/openapi.yaml": 200, "/metrics": 401, "/nothing": 404} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Server.URL()+path, nil)
		s.must(err)
		response, err := client.Do(request)
		s.must(err)
		s.must(response.Body.Close())
		if response.StatusCode != status {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{"name": "api", "issuer": "local", "csr": newCSR(t, "api.example.com")}, nil)
	var chain []byte
	s.call(http.MethodGet, "/api/v1/certificates/api/chain.pem?wait=10s", nil, &chain)
	certificates := parsePEM(t, chain)
	leaf, issuer := certificates[0], certificates[1]
	list := s.fetch(leaf.CRLDistributionPoints[0])
	parsed, err := x509.ParseRevocationList(list)
	if err != nil || parsed.CheckSignatureFrom(issuer) != nil || len(parsed.RevokedCertificateEntries) != 0 {
		t.Errorf("the list of the leaf: %v", err)
	}
	parent, err := x509.ParseCertificate(s.fetch(leaf.IssuingCertificateURL[0]))
	if err != nil || leaf.CheckSignatureFrom(parent) != nil {
		t.Errorf("the issuer's certificate: %v", err)
	}
}

// fetch gets a URL that stands in a certificate.
func (s *stack) fetch(url string) []byte {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url, nil)
	s.must(err)
	response, err := http.DefaultClient.Do(request)
	s.must(err)
	body, err := io.ReadAll(response.Body)
	s.must(err)
	s.must(response.Body.Close())
	if response.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s", url, response.Status)
	}
	return body
}

// Bad settings stop the start, with a sentence that says what to do.
func TestBadSettingsStopTheStart(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, test := range map[string]struct {
		env  []string
		says string
	}{
		"no database":         {[]string{"CERTCTL_DATABASE_URL="}, "CERTCTL_DATABASE_URL"},
		"another role":        {[]string{"CERTCTL_ROLES=api,cook"}, "cook"},
		"a bus twice":         {[]string{"CERTCTL_ROLES=signer,bus", "CERTCTL_NATS_URL=tls://127.0.0.1:1"}, "excludes"},
		"no scheme":           {[]string{"CERTCTL_API_URL=certctl.example.com"}, "https://"},
		"keys of another one": {[]string{"CERTCTL_DATA_DIR=" + t.TempDir(), "CERTCTL_CREATE_KEKS=true"}, "key"},
		"no keys":             {[]string{"CERTCTL_DATA_DIR=" + t.TempDir(), "CERTCTL_CREATE_KEKS=false"}, "key"},
		"a second bus":        {[]string{"CERTCTL_LISTEN=127.0.0.1:0", "CERTCTL_API_URL=https://127.0.0.1:1"}, "another process runs the embedded bus"},
		"an api alone":        {[]string{"CERTCTL_ROLES=api", "CERTCTL_NATS_URL=tls://127.0.0.1:1"}, "responders"},
		"no such level":       {[]string{"CERTCTL_LOG_LEVEL=loud"}, "loud"},
	} {
		code, output := s.serve(test.env)
		if code == 0 || !strings.Contains(output, test.says) {
			t.Errorf("%s: exit code %d: %s", name, code, output)
		}
	}
}

// serve starts one more server with other settings, which must end by itself.
func (s *stack) serve(env []string) (int, string) {
	s.t.Helper()
	cmd := s.server("serve", append([]string{
		"CERTCTL_DATABASE_URL=" + s.DatabaseURL, "CERTCTL_DATA_DIR=" + s.Server.Dir, "CERTCTL_LISTEN=" + s.Server.Listen,
		"CERTCTL_PKI_URL=http://pki.example.com", "CERTCTL_CA_FILE=" + filepath.Join(s.t.TempDir(), "ca.crt"),
		"CERTCTL_ADMIN_KEY_FILE=" + filepath.Join(s.t.TempDir(), "admin.key"),
	}, env...))
	output, _ := cmd.CombinedOutput() // it is to fail
	return cmd.ProcessState.ExitCode(), string(output)
}

// server is one run of certctl-server with settings of its own.
func (s *stack) server(command string, env []string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(binaries, "certctl-server"), command)
	cmd.Env = env
	return cmd
}

// The product's own check finds what a test breaks.
func TestTheCheckFindsABrokenPromise(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.activate("shop")
	env := []string{"CERTCTL_DATABASE_URL=" + s.DatabaseURL, "CERTCTL_DATA_DIR=" + s.Server.Dir}
	if output, err := s.server("check", env).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	s.must(s.Server.Stop(t.Context()))
	s.sql(`delete from due where kind = 'holder'`)
	if output, err := s.server("check", env).CombinedOutput(); err == nil || !strings.Contains(string(output), "holders to renew") {
		t.Errorf("%v: %s", err, output)
	}
	s.must(s.Server.Start(t.Context()))
}
