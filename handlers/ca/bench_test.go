package ca_test

import (
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
)

// BenchmarkLeaf prepares, lints, signs and checks a leaf: all that the CPU has to do
// for a certificate of the local CA.
func BenchmarkLeaf(b *testing.B) {
	_, authority := fixture(b, ca.Options{})
	r := request(b, certctl.ECDSAP256, certctl.Names{DNS: []string{"shop.example.com", "www.shop.example.com"}})
	order := certctl.Order{CSR: r.CSR.Raw, Names: r.Names}
	for b.Loop() {
		prepared, err := authority.Prepare(r)
		if err != nil {
			b.Fatal(err)
		}
		leaf, _, err := prepared.Sign()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := (certctl.Issued{Leaf: leaf, Chain: authority.Chain, Signed: true}).Check(order); err != nil {
			b.Fatal(err)
		}
	}
}
