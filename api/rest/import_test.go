package rest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// existing is a certificate from elsewhere.
type existing struct{ certificate, key, pkcs12 string }

func newExisting(t *testing.T, name string) existing {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour)}
	issuer := *template
	issuer.Subject.CommonName = "an old CA"
	der, err := x509.CreateCertificate(rand.Reader, template, &issuer, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := pkcs12.Modern.Encode(key, leaf, nil, "secret")
	if err != nil {
		t.Fatal(err)
	}
	return existing{
		certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})),
		pkcs12:      base64.StdEncoding.EncodeToString(bundle),
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	watched, pair, bundle := newExisting(t, "watched.example.com"), newExisting(t, "pair.example.com"), newExisting(t, "bundle.example.com")
	var c certificate
	w.as(http.MethodPost, "/api/v1/certificates/import", map[string]any{"name": "watched", "certificate": watched.certificate}).
		want(http.StatusCreated).into(&c)
	if c.Status.State != "monitored" || w.sealed.Load() != 0 {
		t.Errorf("watched: %+v, %d secrets", c, w.sealed.Load())
	}
	a := w.as(http.MethodPost, "/api/v1/certificates/import", map[string]any{"name": "pair", "certificate": pair.certificate, "private_key": pair.key}).
		want(http.StatusCreated)
	if strings.Contains(string(a.body), "PRIVATE") || w.sealed.Load() != 1 {
		t.Errorf("pair: %s", a.body)
	}
	w.as(http.MethodPost, "/api/v1/certificates/import", map[string]any{"name": "bundle", "pkcs12": bundle.pkcs12, "password": "secret"}).want(http.StatusCreated)
	for name, body := range map[string]map[string]any{
		"another key":      {"name": "x", "certificate": newExisting(t, "x.example.com").certificate, "private_key": pair.key},
		"a wrong password": {"name": "x", "pkcs12": newExisting(t, "x.example.com").pkcs12, "password": "guess"},
		"both forms":       {"name": "x", "certificate": watched.certificate, "pkcs12": bundle.pkcs12},
		"no certificate":   {"name": "x"},
		"a key in front":   {"name": "x", "certificate": pair.key + pair.certificate},
		"no PEM":           {"name": "x", "certificate": "hello"},
	} {
		if a := w.as(http.MethodPost, "/api/v1/certificates/import", body); a.status != http.StatusBadRequest || len(a.refusal().Errors) == 0 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	w.as(http.MethodPost, "/api/v1/certificates/import", map[string]any{"name": "again", "certificate": watched.certificate}).want(http.StatusConflict)
}
