package e2e

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rollOver has the next issuing CA sign from now on, as an operator does beside
// the running server.
func (s *stack) rollOver(pki string) {
	s.t.Helper()
	address, err := url.Parse(pki)
	s.must(err)
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(binaries, "certctl-server"), "ca", "rollover", "--overlap", "0s")
	cmd.Env = []string{"CERTCTL_DATABASE_URL=" + s.DatabaseURL, "CERTCTL_DATA_DIR=" + s.Server.Dir, "CERTCTL_PKI_URL=" + address.Scheme + "://" + address.Host}
	if output, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(output), "signs the certificates of local now") {
		s.t.Fatalf("%v: %s", err, output)
	}
}

// After a rollover old leaves are good, by OpenSSL's word, and revocable: their
// lists and OCSP go on under the CA that signed them. New ones come from the next
// CA, below the same root.
func TestOldLeavesOutliveTheirCA(t *testing.T) {
	t.Parallel()
	s := start(t)
	old, other := s.leafFiles("old"), s.leafFiles("other")
	s.rollOver(old.leaf.OCSPServer[0])
	fresh := s.leafFiles("new")
	if string(fresh.leaf.AuthorityKeyId) == string(old.leaf.AuthorityKeyId) || fresh.leaf.OCSPServer[0] == old.leaf.OCSPServer[0] {
		t.Error("the old CA signs on")
	}
	good := func(f *leafFiles, what string) {
		t.Helper()
		for _, check := range []string{"-crl_check", "-crl_check_all"} {
			if !await(t.Context(), 30*time.Second, func() bool { _, err := f.verify(check); return err == nil }) {
				output, err := f.verify(check)
				t.Errorf("%s: %s: %v: %s", what, check, err, output)
			}
		}
		if output, err := f.ocsp("-cert", "leaf.pem"); err != nil || !strings.Contains(output, "Response verify OK") || !strings.Contains(output, "leaf.pem: good") {
			t.Errorf("%s: %v: %s", what, err, output)
		}
	}
	good(old, "an old leaf")
	good(fresh, "a new leaf")
	s.call(http.MethodPost, "/api/v1/certificates/old/revoke", map[string]any{"reason": "superseded", "replace": "no"}, nil)
	if !await(t.Context(), 20*time.Second, func() bool {
		listed, listErr := old.verify("-crl_check_all")
		answered, err := old.ocsp("-cert", "leaf.pem")
		return listErr != nil && strings.Contains(listed, "certificate revoked") && err == nil && strings.Contains(answered, "leaf.pem: revoked")
	}) {
		t.Error("the revocation of an old leaf is never seen")
	}
	good(other, "another old leaf")
	var trust struct {
		Body []byte `json:"body"`
	}
	s.call(http.MethodGet, "/api/v1/trust", nil, &trust)
	if !strings.Contains(string(trust.Body), "BEGIN CERTIFICATE") {
		t.Errorf("trust document %s", trust.Body)
	}
	s.activate("served")
	checkDatabase(t, s.DatabaseURL)
}

// Serial numbers whose first octet is zero, or whose first bit is set so that
// their encoding begins with one, are found in every form of the question.
func TestOCSPKnowsSerialsWithLeadingZeros(t *testing.T) {
	t.Parallel()
	s := start(t)
	f := s.leafFiles("shop")
	for serial, asked := range map[string]string{
		"0a1b2c3d":                               "0x000a1b2c3d",
		"ff00000000000000000000000000000000000b": "0x0000ff00000000000000000000000000000000000b",
	} {
		s.sql(`update version set serial = '` + serial + `' where certificate_id = (select id from certificate where name = 'shop')`)
		for _, hash := range []string{"-sha1", "-sha256"} {
			output, err := f.ocsp("-nonce", hash, "-serial", asked)
			if err != nil || !strings.Contains(output, asked+": good") || !strings.Contains(output, "Response verify OK") || strings.Contains(output, "WARNING") {
				t.Errorf("%s by POST: %v: %s", hash, err, output)
			}
			if output, err := f.openssl("ocsp", "-no_nonce", "-issuer", "ca.pem", hash, "-serial", asked, "-reqout", "request.der"); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			der, err := os.ReadFile(filepath.Join(f.dir, "request.der"))
			s.must(err)
			s.must(os.WriteFile(filepath.Join(f.dir, "response.der"), s.fetch(f.leaf.OCSPServer[0]+"/"+ocspPaths(der)[1]), 0o600))
			output, err = f.openssl("ocsp", "-issuer", "ca.pem", hash, "-serial", asked, "-respin", "response.der", "-CAfile", "root.pem", "-verify_other", "ca.pem", "-no_nonce")
			if err != nil || !strings.Contains(output, asked+": good") {
				t.Errorf("%s by GET: %v: %s", hash, err, output)
			}
		}
	}
}

// What leaves point at is answered over HTTPS as well, to anybody: who verifies a
// certificate has no API key.
func TestRelyingPartiesNeedNoKey(t *testing.T) {
	t.Parallel()
	s := start(t)
	leaf := s.leafFiles("shop").leaf
	client, err := s.Server.Client()
	s.must(err)
	for _, published := range append(leaf.IssuingCertificateURL, leaf.CRLDistributionPoints...) {
		address, err := url.Parse(published)
		s.must(err)
		response, err := client.Get(s.Server.URL() + address.Path)
		s.must(err)
		s.must(response.Body.Close())
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s answers %s", address.Path, response.Status)
		}
	}
	response, err := client.Get(s.Server.URL() + "/api/v1/certificates")
	s.must(err)
	s.must(response.Body.Close())
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("the API answers %s without a key", response.Status)
	}
}
