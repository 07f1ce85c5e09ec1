package certctl_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// What is taken in from the field, and what is not.
func TestWhichLeavesFromTheFieldAreBelieved(t *testing.T) {
	t.Parallel()
	now := time.Now()
	certificate := func(name string, ca bool, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now, NotAfter: now.Add(time.Hour), IsCA: ca, BasicConstraintsValid: ca,
			KeyUsage: x509.KeyUsageDigitalSignature,
		}
		if ca {
			template.KeyUsage, template.Subject.CommonName = x509.KeyUsageCertSign, name
		} else {
			template.DNSNames = []string{name, "www." + name}
		}
		if parent == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed, key
	}
	root, key := certificate("root", true, nil, nil)
	other, _ := certificate("other", true, nil, nil)
	leaf, _ := certificate("shop.example.com", false, root, key)
	fingerprint, id := certctl.DigestOf(leaf.Raw), certctl.NewID(now)
	names := certctl.Names{DNS: []string{"shop.example.com", "www.shop.example.com"}}
	grown := certctl.Names{DNS: []string{"shop.example.com"}}
	foreign := certctl.Names{DNS: []string{"bank.example.com"}}
	chain := certctl.Chain{root.Raw}
	for name, c := range map[string]struct {
		r    certctl.Recovered
		want bool
	}{
		"its event names it":             {certctl.Recovered{Leaf: leaf, Fingerprint: fingerprint, IssuedFor: id, Certificate: id, Names: foreign}, true},
		"its certificate is lost":        {certctl.Recovered{Leaf: leaf, Fingerprint: fingerprint, IssuedFor: id}, true},
		"its event names another leaf":   {certctl.Recovered{Leaf: leaf, Fingerprint: certctl.DigestOf(root.Raw), IssuedFor: id, Certificate: id, Signed: true, Names: names}, false},
		"issued for another certificate": {certctl.Recovered{Leaf: leaf, Fingerprint: fingerprint, IssuedFor: certctl.NewID(now), Certificate: id, Signed: true, Names: names}, false},
		"ours, with some of the names":   {certctl.Recovered{Leaf: leaf, Signed: true, Certificate: id, Names: grown}, true},
		"ours, with none of the names":   {certctl.Recovered{Leaf: leaf, Signed: true, Certificate: id, Names: foreign}, false},
		"ours, certificate lost":         {certctl.Recovered{Leaf: leaf, Signed: true}, true},
		"another CA's, all fits":         {certctl.Recovered{Leaf: leaf, Chain: chain, Certificate: id, Names: names}, true},
		"another CA's, other names":      {certctl.Recovered{Leaf: leaf, Chain: chain, Certificate: id, Names: grown}, false},
		"another CA's, no chain":         {certctl.Recovered{Leaf: leaf, Certificate: id, Names: names}, false},
		"another CA's, lost":             {certctl.Recovered{Leaf: leaf, Chain: chain}, false},
		"a chain that did not sign it":   {certctl.Recovered{Leaf: leaf, Chain: certctl.Chain{other.Raw}, Fingerprint: fingerprint, IssuedFor: id, Certificate: id}, false},
		"a chain that is none":           {certctl.Recovered{Leaf: leaf, Chain: certctl.Chain{[]byte("x")}, Certificate: id, Names: names}, false},
		"a CA":                           {certctl.Recovered{Leaf: root, Signed: true}, false},
	} {
		if err := c.r.Believe(); (err == nil) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
