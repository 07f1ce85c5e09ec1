package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// leafFiles is a leaf with all that a relying party has of it.
type leafFiles struct {
	s    *stack
	dir  string
	leaf *x509.Certificate
}

// leafFiles issues a certificate and writes down leaf, issuing CA, root and the
// lists of all three.
func (s *stack) leafFiles(name string) *leafFiles {
	s.t.Helper()
	f := &leafFiles{s: s, dir: s.t.TempDir()}
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{"name": name, "issuer": "local", "csr": newCSR(s.t, name+".example.com")}, nil)
	var chain []byte
	s.call(http.MethodGet, "/api/v1/certificates/"+name+"/chain.pem?wait=10s", nil, &chain)
	certificates := parsePEM(s.t, chain)
	f.leaf = certificates[0]
	root, err := x509.ParseCertificate(s.fetch(certificates[1].IssuingCertificateURL[0]))
	s.must(err)
	f.write("leaf.pem", "CERTIFICATE", f.leaf.Raw)
	f.write("ca.pem", "CERTIFICATE", certificates[1].Raw)
	f.write("root.pem", "CERTIFICATE", root.Raw)
	f.write("root.crl", "X509 CRL", s.fetch(certificates[1].CRLDistributionPoints[0]))
	return f
}

func (f *leafFiles) write(name, kind string, der []byte) {
	f.s.t.Helper()
	f.s.must(os.WriteFile(filepath.Join(f.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// openssl runs the command beside the files and returns all that it says.
func (f *leafFiles) openssl(args ...string) (string, error) {
	command := exec.CommandContext(f.s.t.Context(), "openssl", args...)
	command.Dir = f.dir
	output, err := command.CombinedOutput()
	return string(output), err
}

// verify asks OpenSSL whether the leaf is good by the lists of this moment.
func (f *leafFiles) verify(check string) (string, error) {
	f.s.t.Helper()
	f.write("leaf.crl", "X509 CRL", f.s.fetch(f.leaf.CRLDistributionPoints[0]))
	return f.openssl("verify", check, "-CAfile", "root.pem", "-untrusted", "ca.pem", "-CRLfile", "leaf.crl", "-CRLfile", "root.crl", "leaf.pem")
}

func (f *leafFiles) ocsp(args ...string) (string, error) {
	return f.openssl(append([]string{"ocsp", "-issuer", "ca.pem", "-CAfile", "root.pem", "-verify_other", "ca.pem", "-url", f.leaf.OCSPServer[0]}, args...)...)
}

// What relying parties see of a revocation, through OpenSSL: lists and OCSP agree
// before it, and within two seconds after it.
func TestOpenSSLSeesARevocationAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	f := s.leafFiles("shop")
	for _, check := range []string{"-crl_check", "-crl_check_all"} {
		if output, err := f.verify(check); err != nil {
			t.Errorf("%s of a good leaf: %v: %s", check, err, output)
		}
	}
	for _, hash := range []string{"-sha1", "-sha256"} {
		for _, nonce := range []string{"-nonce", "-no_nonce"} {
			output, err := f.ocsp(nonce, hash, "-cert", "leaf.pem")
			if err != nil || !strings.Contains(output, "Response verify OK") || !strings.Contains(output, "leaf.pem: good") || strings.Contains(output, "WARNING") {
				t.Errorf("%s %s: %v: %s", hash, nonce, err, output)
			}
		}
	}
	if output, err := f.ocsp("-serial", "0x00000a01"); err != nil || !strings.Contains(output, "unknown") {
		t.Errorf("a serial number that was never issued: %v: %s", err, output)
	}
	revoked := time.Now()
	s.call(http.MethodPost, "/api/v1/certificates/shop/revoke", map[string]any{"reason": "keyCompromise"}, nil)
	for what, seen := range map[string]func() bool{
		"OCSP says revoked": func() bool {
			output, err := f.ocsp("-cert", "leaf.pem")
			return err == nil && strings.Contains(output, "leaf.pem: revoked") && strings.Contains(output, "keyCompromise")
		},
		"the list says revoked": func() bool {
			output, err := f.verify("-crl_check_all")
			return err != nil && strings.Contains(output, "certificate revoked")
		},
	} {
		if !await(t.Context(), 20*time.Second, seen) {
			t.Errorf("never seen: %s", what)
		}
	}
	t.Logf("seen in both after %s", time.Since(revoked))
}

// A request by GET is one path element, escaped or not; caches may keep the
// answer for a minute.
func TestOCSPByGet(t *testing.T) {
	t.Parallel()
	s := start(t)
	f := s.leafFiles("shop")
	if output, err := f.openssl("ocsp", "-no_nonce", "-issuer", "ca.pem", "-cert", "leaf.pem", "-reqout", "request.der"); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	der, err := os.ReadFile(filepath.Join(f.dir, "request.der"))
	s.must(err)
	for _, encoded := range ocspPaths(der) {
		response := s.get(f.leaf.OCSPServer[0] + "/" + encoded)
		header := response.Header
		if response.StatusCode != http.StatusOK || header.Get("Content-Type") != "application/ocsp-response" ||
			!strings.Contains(header.Get("Cache-Control"), "max-age=60") || header.Get("Expires") == "" || header.Get("ETag") == "" {
			t.Errorf("%s: %s %v", encoded, response.Status, header)
		}
		var body bytes.Buffer
		_, err := body.ReadFrom(response.Body)
		s.must(err)
		s.must(response.Body.Close())
		s.must(os.WriteFile(filepath.Join(f.dir, "response.der"), body.Bytes(), 0o600))
		output, err := f.openssl("ocsp", "-issuer", "ca.pem", "-cert", "leaf.pem", "-respin", "response.der", "-CAfile", "root.pem", "-verify_other", "ca.pem", "-no_nonce")
		if err != nil || !strings.Contains(output, "leaf.pem: good") || !strings.Contains(output, "Response verify OK") {
			t.Errorf("%s: %v: %s", encoded, err, output)
		}
	}
}

// ocspPaths are the ways in which clients write a request into a path.
func ocspPaths(der []byte) []string {
	encoded := base64.StdEncoding.EncodeToString(der)
	return []string{encoded, url.PathEscape(encoded), url.QueryEscape(encoded)}
}

func (s *stack) get(address string) *http.Response {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, address, nil)
	s.must(err)
	response, err := http.DefaultClient.Do(request)
	s.must(err)
	return response
}
