package handlers_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// Fifty certificates, proven over HTTP and by DNS, wildcards together with their
// base names, at a server that refuses nonces, remembers half of what it has
// validated, and is disturbed; by workers that die after a few steps.
func TestFiftyCertificatesAtAHostileServer(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{NonceReject: 10, AuthzReuse: 50})
	var all []certctl.Certificate
	for i := range 50 {
		name := fmt.Sprintf("c%d", i)
		var c certctl.Certificate
		switch i % 3 {
		case 0:
			c, _ = w.orderFor(name, name+".example.com", "www."+name+".example.com")
		case 1:
			c, _ = w.orderFor(name, name+".example.org")
		default:
			c, _ = w.orderFor(name, "*."+name+".example.org", name+".example.org")
		}
		all = append(all, c)
	}
	w.pebble.DNS.Lag(5)
	w.pebble.Fail(acmetest.Fault{Path: acmetest.Finalize, Times: 5, Lose: true})
	w.pebble.Fail(acmetest.Fault{Path: acmetest.Authz, Times: 5, Reset: true})
	w.pebble.Fail(acmetest.Fault{Path: acmetest.NewOrder, Times: 3, Status: 429, Problem: "rateLimited", RetryAfter: "1"})
	w.pebble.Fail(acmetest.Fault{Path: acmetest.Cert, Times: 3, Status: 503})
	var r *replica
	life := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same deaths in each run
	started := 0
	w.until("fifty are issued", func() *replica {
		if r == nil || r.store.dead() {
			w.lapse()
			started++
			r = w.worker(fmt.Sprint("worker", started), 20+life.Int64N(200))
		}
		return r
	}, func() bool {
		return w.count(`select count(*) from cert_order where state = 'issued'`) == len(all)
	})
	if n := w.pebble.Count(acmetest.NewOrder); n != len(all) {
		t.Errorf("%d orders at the CA", n)
	}
	if n := w.count(`select count(*) from version where origin = 'issued'`); n != len(all) {
		t.Errorf("%d versions", n)
	}
	if n := w.pebble.Count(acmetest.NewAccount); n != 1 {
		t.Errorf("%d registrations", n)
	}
	if started < 2 {
		t.Errorf("%d workers", started)
	}
	together := 0
	for i := 2; i < 50; i += 3 {
		together = max(together, w.pebble.DNS.Most(fmt.Sprintf("_acme-challenge.c%d.example.org", i)))
	}
	if together != 2 {
		t.Errorf("a wildcard and its base name had %d values at once: one has replaced the other", together)
	}
	w.clean()
}
