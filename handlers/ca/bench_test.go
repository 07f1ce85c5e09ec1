//go:build unix

package ca_test

import (
	"crypto/rand"
	"crypto/x509"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/ca"
)

// benchAuthority is an authority with requests of one shape for it, and their
// orders. A hundred of them, so that nothing is measured that only one leaf has.
func benchAuthority(b *testing.B) (*ca.Authority, []ca.Request, []certctl.Order) {
	b.Helper()
	_, authority := fixture(b, ca.Options{})
	authority.Linter = ca.NewLinter(func(err error) { b.Error(err) })
	requests, orders := make([]ca.Request, 100), make([]certctl.Order, 100)
	for i := range requests {
		name := string(rune('a'+i%26)) + string(rune('a'+i/26)) + ".example.com"
		names, err := certctl.Names{DNS: []string{name, "www." + name}}.Normalize()
		if err != nil {
			b.Fatal(err)
		}
		requests[i], orders[i] = request(b, certctl.ECDSAP256, names), order(b, names)
		if requests[i].SPKI, err = certctl.KeyOfCSR(orders[i].CSR); err != nil {
			b.Fatal(err)
		}
	}
	return authority, requests, orders
}

func order(b *testing.B, names certctl.Names) certctl.Order {
	b.Helper()
	key, err := certctl.ECDSAP256.Generate()
	if err != nil {
		b.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names.DNS}, key)
	if err != nil {
		b.Fatal(err)
	}
	return certctl.Order{CSR: csr, Names: names}
}

// measure runs do and reports the CPU's time beside that of the clock: other
// programs of the machine lengthen only the latter.
func measure(b *testing.B, do func(n int)) {
	b.Helper()
	b.ReportAllocs()
	n, before := 0, cpuTime(b)
	for b.Loop() {
		do(n)
		n++
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(n), "cpu-ns/op")
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkLeaf prepares, lints, signs and checks a leaf: all that the CPU has to do
// for a certificate of the local CA once its order has been read.
func BenchmarkLeaf(b *testing.B) {
	authority, requests, orders := benchAuthority(b)
	measure(b, func(n int) {
		r, order := requests[n%len(requests)], orders[n%len(orders)]
		var err error
		if r.SPKI, err = certctl.KeyOfCSR(order.CSR); err != nil {
			b.Fatal(err)
		}
		leaf := sign(b, prepare(b, authority, r))
		check(b, certctl.Issued{Leaf: leaf, Chain: authority.Chain, Signed: true}, order)
	})
}

// BenchmarkParts measures what BenchmarkLeaf is made of, and what the API does
// with the request.
func BenchmarkParts(b *testing.B) {
	authority, requests, orders := benchAuthority(b)
	prepared := make([]*ca.Prepared, len(requests))
	issued := make([]certctl.Issued, len(requests))
	for i, r := range requests {
		prepared[i] = prepare(b, authority, r)
		issued[i] = certctl.Issued{Leaf: sign(b, prepared[i]), Chain: authority.Chain, Signed: true}
	}
	one := func(n int) int { return n % len(requests) }
	b.Run("ParseCSR", func(b *testing.B) {
		measure(b, func(n int) {
			if _, err := certctl.ParseCSR(orders[one(n)].CSR); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("KeyOfCSR", func(b *testing.B) { // as the signer does: its signature was checked when it came
		measure(b, func(n int) {
			if _, err := certctl.KeyOfCSR(orders[one(n)].CSR); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("Prepare", func(b *testing.B) {
		measure(b, func(n int) { prepare(b, authority, requests[one(n)]) })
	})
	b.Run("LintAndSign", func(b *testing.B) {
		measure(b, func(n int) { sign(b, prepared[one(n)]) })
	})
	b.Run("Check", func(b *testing.B) {
		measure(b, func(n int) { check(b, issued[one(n)], orders[one(n)]) })
	})
}

func prepare(b *testing.B, authority *ca.Authority, r ca.Request) *ca.Prepared {
	b.Helper()
	prepared, err := authority.Prepare(r)
	if err != nil {
		b.Fatal(err)
	}
	return prepared
}

func sign(b *testing.B, prepared *ca.Prepared) []byte {
	b.Helper()
	leaf, _, err := prepared.Sign()
	if err != nil {
		b.Fatal(err)
	}
	return leaf
}

func check(b *testing.B, issued certctl.Issued, order certctl.Order) {
	b.Helper()
	if _, err := issued.Check(order); err != nil {
		b.Fatal(err)
	}
}
