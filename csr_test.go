package certctl_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"github.com/certctl/certctl"
)

func newCSR(t testing.TB, algorithm certctl.KeyAlgorithm, template *x509.CertificateRequest) []byte {
	t.Helper()
	key, err := algorithm.Generate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// The key is that which the library reads, whatever else the request has; what is no
// request has none.
func TestKeyOfCSR(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []certctl.KeyAlgorithm{certctl.ECDSAP256, certctl.ECDSAP384, certctl.RSA2048, certctl.Ed25519} {
		for _, template := range []*x509.CertificateRequest{
			{}, {Subject: pkix.Name{CommonName: "a", Organization: []string{"b"}}, DNSNames: []string{"a.example.com"}},
		} {
			der := newCSR(t, algorithm, template)
			sameKey(t, der)
			for n := range der {
				sameKey(t, der[:n])
			}
		}
	}
	for _, der := range [][]byte{nil, {0x30, 0}, {0x30, 2, 0x30, 0}, {0x30, 0x80}, []byte("text")} {
		if key, err := certctl.KeyOfCSR(der); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%x: %x, %v", der, key, err)
		}
	}
}

func FuzzKeyOfCSR(f *testing.F) {
	f.Add(newCSR(f, certctl.ECDSAP256, &x509.CertificateRequest{DNSNames: []string{"a.example.com"}}))
	f.Add(newCSR(f, certctl.Ed25519, &x509.CertificateRequest{}))
	f.Fuzz(func(t *testing.T, der []byte) { sameKey(t, der) })
}

// sameKey proves that a request that the library accepts has the key that it reads.
func sameKey(t *testing.T, der []byte) {
	t.Helper()
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return
	}
	if key, err := certctl.KeyOfCSR(der); err != nil || !bytes.Equal(key, request.RawSubjectPublicKeyInfo) {
		t.Errorf("%x: %x, %v; the library reads %x", der, key, err, request.RawSubjectPublicKeyInfo)
	}
}
