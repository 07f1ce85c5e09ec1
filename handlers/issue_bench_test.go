//go:build unix

package handlers_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/ca"
	"github.com/certctl/certctl/handlers/issuer/local"
	"github.com/rs/zerolog"
)

// batch gives the same orders again and again and forgets what came of them: it
// stands for PostgreSQL where only the signer's own CPU is of interest.
type batch struct {
	jobs []certctl.IssueJob
	at   time.Time
	done int
}

func (b *batch) ReadyOrders(context.Context, []certctl.ID) ([]certctl.IssueJob, error) {
	return b.jobs, nil
}

func (b *batch) BeginIssue(_ context.Context, _ string, _ time.Duration, starts []certctl.AttemptStart) ([]certctl.Attempt, error) {
	attempts := make([]certctl.Attempt, len(starts))
	for i, start := range starts {
		attempts[i] = certctl.Attempt{Order: start.Order, N: 1, Authority: start.Authority, Serial: start.Serial, StartedAt: start.StartedAt}
	}
	return attempts, nil
}

func (b *batch) FinishIssue(_ context.Context, ends []certctl.AttemptEnd) ([]certctl.FinishResult, error) {
	for _, end := range ends {
		if end.Leaf != nil {
			b.done++
		}
	}
	return make([]certctl.FinishResult, len(ends)), nil
}

func (b *batch) ExtendLease(context.Context, certctl.ID, int, string, time.Duration) error {
	return nil
}

func (b *batch) Now(context.Context) (time.Time, error) { return b.at, nil }

// newBatch is a batch of orders for one issuer.
func newBatch(b *testing.B, n int) *batch {
	b.Helper()
	jobs := &batch{at: time.Now()}
	key, err := certctl.ECDSAP256.Generate()
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		names := certctl.Names{DNS: []string{fmt.Sprintf("shop%d.example.com", i)}}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names.DNS}, key)
		if err != nil {
			b.Fatal(err)
		}
		jobs.jobs = append(jobs.jobs, certctl.IssueJob{
			Order:  certctl.Order{ID: certctl.NewID(jobs.at).WithOrder(i), CSR: csr, Names: names, Profile: certctl.DefaultProfile()},
			ReadAt: jobs.at,
		})
	}
	return jobs
}

// BenchmarkIssueBatch takes 256 orders from hint to leaf as the signer does, but for
// the database.
func BenchmarkIssueBatch(b *testing.B) {
	made, err := ca.NewRoot(ca.Options{}, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	authority, err := ca.Load(certctl.Authority{
		ID: certctl.NewID(time.Now()), Certificate: made.Certificate.Raw, PKIURL: "http://pki.example.com", Shards: 128,
	}, made.Key)
	if err != nil {
		b.Fatal(err)
	}
	authority.Linter = ca.NewLinter(func(err error) { b.Error(err) })
	open := func(context.Context, certctl.Issuer, []byte) (handlers.CA, error) { return local.New(authority), nil }
	jobs := newBatch(b, certctl.MaxHintIDs)
	issue := handlers.NewIssue(jobs, open, "bench", zerolog.Nop())
	var before, after syscall.Rusage
	rusage := func(usage *syscall.Rusage) {
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, usage); err != nil {
			b.Fatal(err)
		}
	}
	rusage(&before)
	batches := 0
	for b.Loop() {
		if err := issue.Handle(b.Context(), certctl.Hint{Verb: certctl.HintIssue}); err != nil {
			b.Fatal(err)
		}
		batches++
	}
	rusage(&after)
	leaves := batches * len(jobs.jobs)
	if jobs.done != leaves {
		b.Fatalf("%d of %d orders have a leaf", jobs.done, leaves)
	}
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(leaves), "cpu-ns/leaf")
}
