package handlers_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// The CA is told so much later than the DNS servers show the records, once, and
// another worker goes on where the wait has begun. Proofs by HTTP wait for nothing.
func TestTheCAIsToldWhenTheWaitForTheDNSIsOver(t *testing.T) {
	t.Parallel()
	const wait = 10 * time.Minute
	w := newACME(t, acmetest.Options{}, func(s *acme.Settings) { s.Spread = certctl.Duration(wait) })
	c, _ := w.orderFor("shop", "shop.example.org")
	w.until("waiting", always(w.worker("a", immortal)), func() bool { return strings.Contains(w.order(c).Message, "dns_propagation_wait") })
	o := w.order(c)
	if in := o.DueAt.Sub(w.now()); o.Wait != certctl.WaitDNS || in < wait*9/10 || in > wait {
		t.Errorf("waits because of %s, for %s", o.Wait, in)
	}
	for range 3 { // whatever has it looked at
		w.hurry()
		w.work(w.worker("b", immortal))
	}
	if o := w.order(c); o.Wait != certctl.WaitDNS || !o.DueAt.After(w.now().Add(wait/2)) {
		t.Errorf("looked at before its time, it waits because of %s until %s", o.Wait, o.DueAt)
	}
	if n := w.pebble.Count(acmetest.Challenge); n != 0 {
		t.Errorf("the CA was told %d times", n)
	}
	w.passes("tell_at")
	waits := 0
	w.until("issued", always(w.worker("b", immortal)), func() bool {
		if strings.Contains(w.order(c).Message, "dns_propagation_wait") {
			waits++
		}
		return w.issued(c)()
	})
	if waits > 1 { // as it was found
		t.Errorf("the wait began %d times more", waits-1)
	}
	plain, _ := w.orderFor("plain", "plain.example.com")
	w.until("issued", always(w.worker("c", immortal)), func() bool {
		if message := w.order(plain).Message; strings.Contains(message, "dns_propagation_wait") {
			t.Errorf("http-01: %s", message)
		}
		return w.issued(plain)()
	})
	w.clean()
}

// passes lets a moment pass that attempts have recorded.
func (w *acmeWorld) passes(field string) {
	w.t.Helper()
	var order certctl.ID
	var raw []byte
	w.must(w.Pool().QueryRow(w.ctx, `select order_id, state from attempt where outcome = ''`).Scan(&order, &raw))
	recorded := map[string]any{}
	w.must(json.Unmarshal(raw, &recorded))
	if recorded[field] == nil {
		w.t.Fatalf("no %s in %s", field, raw)
	}
	recorded[field] = time.Unix(0, 0).UTC()
	raw, err := json.Marshal(recorded)
	w.must(err)
	_, err = w.Pool().Exec(w.ctx, `update attempt set state = $2 where order_id = $1 and outcome = ''`, order, raw)
	w.must(err)
}
