package handlers_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// What a CA gives in a time is shared by all workers; what is beyond it waits,
// visibly, until there is room. Renewals are not counted under a domain.
func TestOrdersWaitForTheBudgetOfTheirDomain(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{}, func(s *acme.Settings) {
		s.Budgets = acme.Budgets{Domain: &acme.Budget{Count: 2, Per: "7d"}}
	})
	a, _ := w.orderFor("a", "a.example.com")
	b, _ := w.orderFor("b", "b.x.example.com")
	first, second := w.worker("first", immortal), w.worker("second", immortal)
	w.until("issued", always(first), w.issued(a, b))
	c, _ := w.orderFor("c", "c.example.com", "c.example.net")
	other, _ := w.orderFor("other", "shop.example.net")
	w.until("the other domain has room, this one not", always(second), func() bool {
		return w.issued(other)() && w.order(c).Wait == certctl.WaitBudget
	})
	o := w.order(c)
	if !strings.Contains(o.Message, "2 certificates for example.com and all below it in 7d") || o.State != certctl.OrderProcessing {
		t.Errorf("%s: %q", o.State, o.Message)
	}
	if n := w.count(`select count(*) from external_use where key = 'domain example.net'`); n != 1 {
		t.Errorf("%d orders are counted for the other domain: what waits must not spend", n)
	}
	_, err := w.Pool().Exec(w.ctx, `update due set due_at = now() where verb = 'issue'`)
	w.must(err)
	w.work(first)
	if in := w.order(c).DueAt.Sub(w.now()); in < 6*certctl.Day || in > 7*certctl.Day {
		t.Errorf("it is looked at again in %s", in)
	}
	orders := w.pebble.Count(acmetest.NewOrder)

	// A renewal goes through, with its predecessor named or not.
	for range 2 {
		_, err := w.RenewCertificate(w.ctx, w.admin, a.ID.String(), certctl.RenewRequest{}, certctl.Idempotency{})
		w.must(err)
		w.requested(a)
		w.until("renewed", always(first), w.issued(a))
		w.pebble.Fail(acmetest.Fault{Path: acmetest.NewOrder, Times: 1, Status: 409, Problem: "alreadyReplaced"})
	}
	if n := w.pebble.Count(acmetest.NewOrder); n != orders+2 {
		t.Errorf("%d orders for two renewals", n-orders)
	}
	_, err = w.Pool().Exec(w.ctx, `update external_use set at = at - interval '7 days'`)
	w.must(err)
	w.until("there is room again", always(second), w.issued(c))
	w.clean()
}

// What of an order came to nothing is given back; failed validations are counted
// for their name, whatever order they are of.
func TestFailedValidationsHaveABudget(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{}, func(s *acme.Settings) {
		s.Budgets = acme.Budgets{Failures: &acme.Budget{Count: 1, Per: "1h"}, Names: &acme.Budget{Count: 1, Per: "7d"}}
	})
	fails := func(name string) certctl.Certificate {
		c, _ := w.orderFor(name, "shop.example.com")
		w.until("presented", always(w.worker(name, 3)), func() bool { return w.count(`select count(*) from challenge_token`) > 0 })
		w.lapse()
		_, err := w.Pool().Exec(w.ctx, `update challenge_token set answer = 'of somebody else'`)
		w.must(err)
		r := w.worker(name+"-next", immortal)
		w.until("refused", always(r), func() bool { return strings.HasPrefix(w.order(c).ErrorCode, "acme_") })
		return c
	}
	first := fails("first")
	r := w.worker("last", immortal)
	w.until("waits for the budget", always(r), func() bool { return w.order(first).Wait == certctl.WaitBudget })
	if m := w.order(first).Message; !strings.Contains(m, "1 failed validations of shop.example.com in 1h") {
		t.Errorf("%q", m)
	}
	if n := w.count(`select count(*) from external_use where key like 'names %'`); n != 0 {
		t.Errorf("%d certificates are counted and none was issued", n)
	}
	_, err := w.CancelOrder(w.ctx, w.admin, w.order(first).ID)
	w.must(err)
	second, _ := w.orderFor("second", "shop.example.com")
	w.until("another order waits, too", always(r), func() bool { return w.order(second).Wait == certctl.WaitBudget })
	_, err = w.Pool().Exec(w.ctx, `update external_use set at = at - interval '1 hour'`)
	w.must(err)
	w.until("issued", always(r), w.issued(second))

	third, _ := w.orderFor("third", "shop.example.com")
	w.until("the same names once in seven days", always(r), func() bool { return w.order(third).Wait == certctl.WaitBudget })
	if m := w.order(third).Message; !strings.Contains(m, "1 certificates for exactly these names") {
		t.Errorf("%q", m)
	}
	_, err = w.CancelOrder(w.ctx, w.admin, w.order(third).ID)
	w.must(err)
	w.until("settled", always(r), func() bool { return w.count(`select count(*) from external_order`) == 0 })
	w.clean()
}

func TestBudgetsThatCannotBe(t *testing.T) {
	t.Parallel()
	for budgets, field := range map[string]string{
		`{"orders": {"count": -1, "per": "3h"}}`:                    "/settings/budgets/orders/count",
		`{"certificates_per_domain": {"count": 1}}`:                 "/settings/budgets/certificates_per_domain/per",
		`{"certificates_per_names": {"count": 1, "per": "32d"}}`:    "/settings/budgets/certificates_per_names/per",
		`{"failures_per_name": {"count": 9999999, "per": "1h"}}`:    "/settings/budgets/failures_per_name/count",
		`{"failures_per_name": {"count": 5, "per": "yesterday"}}`:   "/settings/budgets/failures_per_name/per",
		`{"orders": {"count": 0}, "failures": {"count": 1}}`:        "/settings",
		`{"orders": {"count": 0}, "certificates_per_domain": null}`: "",
	} {
		err := acme.Validate([]byte(`{"directory": "letsencrypt", "terms_of_service_agreed": true, "budgets": ` + budgets + `}`))
		var said *certctl.Error
		switch {
		case field == "" && err == nil:
		case !errors.As(err, &said) || len(said.Fields) != 1 || said.Fields[0].Field != field:
			t.Errorf("%s: %v", budgets, err)
		}
	}
}
