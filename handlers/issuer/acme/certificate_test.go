package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	legoacme "github.com/go-acme/lego/v4/acme"
)

// signed makes a certificate; a nil parent makes a root.
func signed(t *testing.T, name string, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func chainOf(certs ...*x509.Certificate) *legoacme.RawCertificate {
	var text []byte
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return &legoacme.RawCertificate{Cert: text}
}

func TestThePreferredChainIsChosen(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	oldRoot, newRoot := signed(t, "Old Root", nil, key), signed(t, "New Root", nil, key)
	below, cross := signed(t, "CA", newRoot, key), signed(t, "CA", oldRoot, key)
	leaf := signed(t, "leaf", below, key)
	all := map[string]*legoacme.RawCertificate{"first": chainOf(leaf, below), "second": chainOf(leaf, cross, oldRoot)}
	for preferred, want := range map[string]*x509.Certificate{"": below, "New Root": below, "Old Root": cross, "Nobody": below} {
		issued, err := chooseChain(all, "first", preferred)
		if err != nil || len(issued.Chain) != 1 || string(issued.Chain[0]) != string(want.Raw) || string(issued.Leaf) != string(leaf.Raw) {
			t.Errorf("%q: %d certificates, %v", preferred, len(issued.Chain), err)
		}
	}
	for _, text := range []string{"", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, _, err := parseChain([]byte(text)); err == nil {
			t.Errorf("%q is taken for a chain", text)
		}
	}
}

// Which name was refused, why, and what to do, stands in the message.
func TestAProblemSaysWhichNameAndWhatToDo(t *testing.T) {
	t.Parallel()
	e := problemError(&legoacme.ProblemDetails{
		Type: problemPrefix + "compound", Detail: "some names are refused",
		SubProblems: []legoacme.SubProblem{
			{Type: problemPrefix + "caa", Detail: "CAA forbids", Identifier: legoacme.Identifier{Value: "b.example.com"}},
		},
	}, "the CA takes no order")
	if e.Kind != certctl.FailRetryable || e.Code != "acme_compound" || !strings.Contains(e.Message, "b.example.com: CAA forbids") || !strings.Contains(e.Message, "CAA records allow") {
		t.Errorf("%+v", e)
	}
	transport := &transport{status: 429, retryAfter: "90"}
	limited := transport.failed(&legoacme.RateLimitedError{ProblemDetails: &legoacme.ProblemDetails{Type: problemPrefix + "rateLimited", HTTPStatus: 429}}, "x")
	if limited.Kind != certctl.FailRateLimited || limited.RetryAfter != 90*time.Second || !limited.Resume || limited.Outage {
		t.Errorf("%+v", limited)
	}
	down := transport.failed(&legoacme.ProblemDetails{Type: problemPrefix + "serverInternal", HTTPStatus: 500}, "x")
	if down.Kind != certctl.FailRetryable || !down.Outage || !down.Resume {
		t.Errorf("%+v", down)
	}
	final := transport.failed(&legoacme.ProblemDetails{Type: problemPrefix + "rejectedIdentifier", HTTPStatus: 400}, "x")
	if final.Kind != certctl.FailRefused || final.Resume {
		t.Errorf("%+v", final)
	}
}
