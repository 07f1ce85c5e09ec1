package acmetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/core"
)

// Known makes as many leaves that the server takes for its own and answers for,
// without an order for each: a fleet of thousands would take minutes to order. They
// name its issuing key, and do not verify with it. The n-th is for n.<domain>.
func (s *Server) Known(t testing.TB, domain string, n int) [][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuing := s.issuing.Cert
	signer := &x509.Certificate{Subject: issuing.Subject, SubjectKeyId: issuing.SubjectKeyId, PublicKey: key.Public()}
	now := time.Now()
	leaves := make([][]byte, n)
	for i := range leaves {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
		if err != nil {
			t.Fatal(err)
		}
		leaves[i], err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{}, DNSNames: []string{fmt.Sprintf("%d.%s", i, domain)},
			NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(89 * 24 * time.Hour),
		}, signer, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(leaves[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.certificates.AddCertificate(&core.Certificate{ID: serial.Text(16), Cert: leaf, DER: leaves[i]}); err != nil {
			t.Fatal(err)
		}
	}
	return leaves
}
