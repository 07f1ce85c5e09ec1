package handlers_test

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// Two hundred certificates (two dozen in the short form) with mixed challenges, from
// a CA that refuses half of the good nonces, takes its time, and whose server resets connections, is busy and
// loses answers, by workers that die at random between two steps: all are issued,
// once each, and nothing is left over anywhere.
func TestManyCertificatesThroughAHostileCA(t *testing.T) {
	t.Parallel()
	many := 24
	if os.Getenv("CERTCTL_TEST_ALL") != "" {
		many = 200
	}
	w := newACME(t, acmetest.Options{NonceReject: 50, AuthzReuse: 50, Slow: true})
	for _, fault := range []acmetest.Fault{
		{Path: acmetest.NewOrder, Times: 5, Status: 429, Problem: "rateLimited", RetryAfter: "1"},
		{Path: acmetest.NewOrder, Times: 5, Status: 503},
		{Path: acmetest.Authz, Times: 20, Reset: true},
		{Path: acmetest.Authz, Times: 10, Lose: true},
		{Path: acmetest.Finalize, Times: 10, Lose: true},
		{Path: acmetest.Finalize, Times: 5, Reset: true},
		{Path: acmetest.Cert, Times: 10, Reset: true},
		{Path: acmetest.Cert, Times: 5, Status: 500},
	} {
		w.pebble.Fail(fault)
	}
	certificates, requests := make([]certctl.Certificate, many), map[certctl.ID]certctl.Order{}
	for i := range certificates {
		names := [][]string{
			{fmt.Sprintf("c%d.example.com", i)}, {fmt.Sprintf("*.c%d.example.org", i), fmt.Sprintf("c%d.example.org", i)},
			{fmt.Sprintf("c%d.example.com", i), fmt.Sprintf("c%d.example.org", i)},
		}[i%3]
		certificates[i], _ = w.orderFor(fmt.Sprint("c", i), names...)
		requests[certificates[i].ID] = w.order(certificates[i])
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	deaths, done := w.kill(uint64(seed), max(5*time.Minute, time.Duration(many)*5*time.Second), func() bool { //nolint:gosec // any number
		return w.count(`select count(*) from cert_order where state = 'issued'`) == many
	})
	if !done {
		t.Fatalf("after %d deaths: %d issued, waiting: %v", deaths, w.count(`select count(*) from cert_order where state = 'issued'`), w.waiting())
	}
	if deaths < int64(many/10) {
		t.Errorf("only %d workers died", deaths)
	}
	if n := w.pebble.Count(acmetest.NewOrder); n != many {
		t.Errorf("%d orders at the CA for %d certificates", n, many)
	}
	if n := w.pebble.Count(acmetest.NewAccount); n != 1 {
		t.Errorf("%d registrations", n)
	}
	for _, c := range certificates {
		versions := w.versions(c)
		if len(versions) != 1 {
			t.Errorf("%s has %d versions", c.Name, len(versions))
			continue
		}
		leaf, err := x509.ParseCertificate(versions[0].Leaf)
		w.must(err)
		csr, err := x509.ParseCertificateRequest(requests[c.ID].CSR)
		w.must(err)
		if !slices.Equal(leaf.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) {
			t.Errorf("%s: the leaf is for another key", c.Name)
		}
	}
	r := w.worker("last", immortal)
	w.until("settled", always(r), func() bool { return w.count(`select count(*) from external_order`) == 0 })
	w.clean()
}

// kill lets three workers at once do what is due until a condition holds, each of
// them dying after some steps and followed by another. It returns how many died.
func (w *acmeWorld) kill(seed uint64, most time.Duration, done func() bool) (deaths int64, ended bool) {
	w.t.Helper()
	var died atomic.Int64
	var stop atomic.Bool
	var wait sync.WaitGroup
	for slot := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, slot)) //nolint:gosec // a test's
		wait.Go(func() {
			again := time.NewTicker(20 * time.Millisecond)
			defer again.Stop()
			for life := 0; !stop.Load(); life++ {
				name := fmt.Sprintf("worker-%d-%d", slot, life)
				r := w.worker(name, 1+random.Int64N(60))
				for !stop.Load() && !r.store.dead() {
					<-again.C
					w.hurry()
					_, err := w.Pool().Exec(w.ctx, `update issuer set probe_at = now() where probe_at > now()`)
					w.must(err)
					w.work(r)
				}
				if r.store.dead() {
					died.Add(1)
					w.lapseOf(name)
				}
			}
		})
	}
	deadline := time.After(most)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for !ended {
		select {
		case <-deadline:
			stop.Store(true)
			wait.Wait()
			return died.Load(), false
		case <-ticker.C:
			ended = done()
		}
	}
	stop.Store(true)
	wait.Wait()
	return died.Load(), true
}

// lapseOf ends the leases of one worker, as time does when it has died.
func (w *acmeWorld) lapseOf(worker string) {
	w.t.Helper()
	_, err := w.Pool().Exec(w.ctx, `
		with its as (
			select o.id from cert_order o join attempt a on a.order_id = o.id
			where a.outcome = '' and a.worker = $1 order by o.id for no key update of o),
		lapsed as (
			update attempt set lease_until = now() - interval '1 second' from its where order_id = its.id and outcome = '' and worker = $1)
		update cert_order set lost_leases = 0 from its where cert_order.id = its.id`, worker)
	w.must(err)
}

// waiting says what orders wait for.
func (w *acmeWorld) waiting() map[string]int {
	w.t.Helper()
	rows, err := w.Pool().Query(w.ctx, `select state || ' ' || wait || ' ' || error_code, count(*) from cert_order group by 1`)
	w.must(err)
	defer rows.Close()
	all := map[string]int{}
	for rows.Next() {
		var what string
		var n int
		w.must(rows.Scan(&what, &n))
		all[what] = n
	}
	return all
}
