package store_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

// Sizes of a bulk request and of a batch of orders, as the API and the signer
// have them.
const (
	benchSubmit = 1000
	benchBatch  = 256
)

// submissions are requests with CSRs, with names of their own for each round.
func submissions(b *testing.B, csr *certctl.CSR, round int) []certctl.CertificateRequest {
	b.Helper()
	requests := make([]certctl.CertificateRequest, benchSubmit)
	for i := range requests {
		name := fmt.Sprintf("b-%d-%d", round, i)
		requests[i] = certctl.CertificateRequest{Name: name, Issuers: []string{"local"}, CSR: csr, Origin: certctl.OriginBulk}
	}
	return requests
}

// databaseTime is the CPU time in seconds that the benchmark's connections have
// used in PostgreSQL so far: unlike time that passes, it stays nearly the same on a
// busy machine. Zero where there is no /proc.
func (w *world) databaseTime() (total float64) {
	w.t.Helper()
	const tick = 1.0 / 100 // USER_HZ, which is 100 on every Linux
	var pids []int32
	if err := w.Pool().QueryRow(w.ctx, `select array(select pid from pg_stat_activity where datname = current_database())`).Scan(&pids); err != nil {
		w.t.Fatal(err)
	}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(text), ") ")
		for _, field := range strings.Fields(after)[11:13] {
			ticks, err := strconv.ParseFloat(field, 64)
			if err != nil {
				w.t.Fatal(err)
			}
			total += ticks * tick
		}
	}
	return total
}

// perCertificate reports what one certificate of n took.
func (w *world) perCertificate(b *testing.B, n int, database float64) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/certificate")
	b.ReportMetric(database*1e6/float64(n), "database-µs/certificate")
}

// BenchmarkSubmit records certificates with their first orders, a thousand in one
// transaction.
func BenchmarkSubmit(b *testing.B) {
	w := newWorld(b)
	csr := csrFor(b, "b.example.com")
	before := w.databaseTime()
	for round := 0; b.Loop(); round++ {
		w.submitAll(submissions(b, csr, round))
	}
	w.perCertificate(b, b.N*benchSubmit, w.databaseTime()-before)
}

// BenchmarkIssue brings orders from ready to issued, 256 in one batch: what the
// signer asks of the database for each.
func BenchmarkIssue(b *testing.B) {
	w := newWorld(b)
	csr := csrFor(b, "b.example.com")
	var waiting []certctl.ID
	var leaves [][]byte
	chain := certctl.Chain{leafFor(b, "ca")}
	var database float64
	for round := 0; b.Loop(); round++ {
		b.StopTimer()
		if len(waiting) < benchBatch {
			w.submitAll(submissions(b, csr, round))
			waiting = append(waiting, w.hinted(certctl.HintIssue)...)
		}
		batch := waiting[:benchBatch]
		waiting = waiting[benchBatch:]
		leaves = leaves[:0]
		for range batch {
			leaves = append(leaves, leafFor(b, "b.example.com"))
		}
		before := w.databaseTime()
		b.StartTimer()
		w.issueBatch(batch, leaves, chain)
		b.StopTimer()
		database += w.databaseTime() - before
		b.StartTimer()
	}
	w.perCertificate(b, b.N*benchBatch, database)
}

func (w *world) submitAll(requests []certctl.CertificateRequest) {
	w.t.Helper()
	results, err := w.SubmitCertificates(w.ctx, w.admin, requests)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, result := range results {
		if result.Err != nil {
			w.t.Fatal(result.Err)
		}
	}
}

func (w *world) issueBatch(orders []certctl.ID, leaves [][]byte, chain certctl.Chain) {
	w.t.Helper()
	begun := w.begin("bench", orders...)
	if len(begun) != len(orders) {
		w.t.Fatalf("%d of %d orders were begun", len(begun), len(orders))
	}
	ends := make([]certctl.AttemptEnd, len(begun))
	for i, a := range begun {
		ends[i] = certctl.AttemptEnd{Order: a.Order, N: a.N, Worker: a.Worker, Leaf: leaves[i], Chain: chain}
	}
	w.finish(ends...)
}

// BenchmarkSubmitOne records one certificate with its first order, which is then
// issued by itself: what a single request costs.
func BenchmarkSubmitOne(b *testing.B) {
	w := newWorld(b)
	csr := csrFor(b, "b.example.com")
	for n := 0; b.Loop(); n++ {
		if _, err := w.SubmitCertificate(w.ctx, w.admin, certctl.CertificateRequest{
			Name: fmt.Sprintf("one-%d", n), Issuers: []string{"local"}, CSR: csr,
		}, certctl.Idempotency{}); err != nil {
			b.Fatal(err)
		}
	}
}
