package ca_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
	"golang.org/x/crypto/ocsp"
)

// responderOf makes a responder of an authority.
func responderOf(t testing.TB, authority *ca.Authority) *ca.Responder {
	t.Helper()
	made, err := authority.NewResponder(now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ca.LoadResponder(made.Certificate.Raw, made.Key, authority.Certificate.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// signLeaf signs a leaf with the serial number.
func signLeaf(t testing.TB, authority *ca.Authority, serial certctl.Serial) *x509.Certificate {
	t.Helper()
	r := request(t, certctl.ECDSAP256, certctl.Names{DNS: []string{"a.example.com"}})
	r.Serial = serial
	prepared, err := authority.Prepare(r)
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := prepared.Sign()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// Another implementation reads what we answer, for every kind of CA key and
// every hash that names an issuer.
func TestOCSPAnswersAreRead(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []certctl.KeyAlgorithm{certctl.ECDSAP256, certctl.ECDSAP384, certctl.RSA2048} {
		_, authority := fixture(t, ca.Options{KeyAlgorithm: algorithm})
		responder := responderOf(t, authority)
		serial := certctl.Serial("00ff10")[2:] // a short one whose text has a high bit
		leaf := signLeaf(t, authority, serial)
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			der, err := ocsp.CreateRequest(leaf, authority.Certificate, &ocsp.RequestOptions{Hash: hash})
			if err != nil {
				t.Fatal(err)
			}
			q, err := ca.ParseOCSPRequest(der)
			if err != nil || responder.Answers(q) != nil || len(q.Serials()) != 1 || q.Serials()[0] != serial {
				t.Fatalf("%s, %s: %v %v", algorithm, hash, q.Serials(), err)
			}
			revoked := certctl.SerialStatus{Known: true, RevokedAt: now.Add(-time.Minute), Reason: certctl.ReasonKeyCompromise}
			for want, status := range map[int]certctl.SerialStatus{ocsp.Good: {Known: true}, ocsp.Unknown: {}, ocsp.Revoked: revoked} {
				answer, err := responder.Respond(q, map[certctl.Serial]certctl.SerialStatus{serial: status}, now)
				if err != nil {
					t.Fatal(err)
				}
				read, err := ocsp.ParseResponseForCert(answer.DER, leaf, authority.Certificate)
				if err != nil {
					t.Fatal(err)
				}
				if read.Status != want || !read.NextUpdate.Equal(now.Add(ca.OCSPValidity)) {
					t.Errorf("%s, %s: status %+v; want %d", algorithm, hash, read, want)
				}
				if want == ocsp.Revoked && (read.RevocationReason != ocsp.KeyCompromise || !read.RevokedAt.Equal(status.RevokedAt)) {
					t.Errorf("revoked %s for %d", read.RevokedAt, read.RevocationReason)
				}
			}
		}
	}
}

func TestOCSPRefusesWhatIsNotAsked(t *testing.T) {
	t.Parallel()
	_, authority := fixture(t, ca.Options{})
	_, other := fixture(t, ca.Options{})
	responder := responderOf(t, authority)
	leaf := signLeaf(t, other, "0102")
	der, err := ocsp.CreateRequest(leaf, other.Certificate, nil)
	if err != nil {
		t.Fatal(err)
	}
	q, err := ca.ParseOCSPRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := responder.Answers(q); !errors.Is(err, ca.OCSPUnauthorized) {
		t.Errorf("another issuer's leaf: %v", err)
	}
	for _, bad := range [][]byte{nil, {0x30, 0}, der[:len(der)-1], append(bytes.Clone(der), 0)} {
		if _, err := ca.ParseOCSPRequest(bad); !errors.Is(err, ca.OCSPMalformed) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	if _, err := ca.LoadResponder(other.Certificate.Raw, nil, authority.Certificate.Raw); err == nil {
		t.Error("a responder of another authority is loaded")
	}
	if read, err := ocsp.ParseResponse(ca.OCSPTryLater.Refusal(), nil); read != nil || err == nil || !strings.Contains(err.Error(), "try later") {
		t.Errorf("refusal %v, %v", read, err)
	}
}

// OpenSSL's own client, with a nonce and several certificates at once, against
// every kind of CA key.
func TestOpenSSLReadsOCSP(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []certctl.KeyAlgorithm{certctl.ECDSAP256, certctl.RSA2048, certctl.Ed25519} {
		root, authority := fixture(t, ca.Options{KeyAlgorithm: algorithm})
		responder := responderOf(t, authority)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			der, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			q, err := ca.ParseOCSPRequest(der)
			if err != nil || responder.Answers(q) != nil {
				t.Error(err)
			}
			answer, err := responder.Respond(q, map[certctl.Serial]certctl.SerialStatus{
				"0a00000000000001": {Known: true}, "7f01": {Known: true, RevokedAt: now, Reason: certctl.ReasonSuperseded},
			}, now)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "application/ocsp-response")
			_, _ = w.Write(answer.DER)
		}))
		t.Cleanup(server.Close)
		dir := t.TempDir()
		for name, der := range map[string][]byte{
			"root": root.Certificate.Raw, "ca": authority.Certificate.Raw,
			"good": signLeaf(t, authority, "0a00000000000001").Raw, "revoked": signLeaf(t, authority, "7f01").Raw,
		} {
			writePEM(t, filepath.Join(dir, name), der)
		}
		for _, hash := range []string{"-sha1", "-sha256"} {
			command := exec.CommandContext(t.Context(), "openssl", "ocsp", "-nonce", "-issuer", "ca", hash, "-cert", "good", hash, "-cert", "revoked",
				"-CAfile", "root", "-verify_other", "ca", "-url", server.URL)
			command.Dir = dir
			text, err := command.CombinedOutput()
			out := string(text)
			for _, want := range []string{"Response verify OK", "good: good", "revoked: revoked", "Reason: superseded"} {
				if err != nil || !strings.Contains(out, want) {
					t.Errorf("%s %s: openssl does not say %q: %v\n%s", algorithm, hash, want, err, out)
				}
			}
			if strings.Contains(out, "WARNING") {
				t.Errorf("openssl warns: %s", out)
			}
		}
	}
}

func FuzzParseOCSPRequest(f *testing.F) {
	_, authority := fixture(f, ca.Options{})
	leaf := signLeaf(f, authority, "0102")
	der, err := ocsp.CreateRequest(leaf, authority.Certificate, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	responder := responderOf(f, authority)
	f.Fuzz(func(t *testing.T, der []byte) {
		q, err := ca.ParseOCSPRequest(der)
		if err != nil {
			return
		}
		if err := responder.Answers(q); err != nil {
			return
		}
		if _, err := responder.Respond(q, nil, now); err != nil {
			t.Error(err)
		}
	})
}

func writePEM(t testing.TB, path string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, certctl.Chain(nil).PEM(der), 0o600); err != nil {
		t.Fatal(err)
	}
}
