package handlers_test

import (
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
	if n := w.pebble.Count(acmetest.Challenge); n != 0 {
		t.Errorf("the CA was told %d times", n)
	}
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
