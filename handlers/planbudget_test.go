package handlers_test

import (
	"fmt"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// What the plan expects new certificates to take is what orders take.
func TestThePlanCountsAsOrdersDo(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{}, func(s *acme.Settings) {
		s.Budgets = acme.Budgets{Domain: &acme.Budget{Count: 2, Per: "7d"}, Orders: &acme.Budget{Count: 50, Per: "3h"}}
	})
	a, _ := w.orderFor("a", "a.example.com")
	b, _ := w.orderFor("b", "b.example.com")
	r := w.worker("a", immortal)
	w.until("issued", always(r), w.issued(a, b))
	w.asked(r)
	c, _ := w.orderFor("c", "c.example.com")
	w.until("it waits", always(r), func() bool { return w.order(c).Wait == certctl.WaitBudget })
	holders, err := w.PlannedHolders(w.ctx, w.admin, certctl.PlanFilter{})
	w.must(err)
	read, err := w.GetIssuer(w.ctx, w.admin, "pebble")
	w.must(err)
	uses, err := issuer.Kinds{}.Budgets(read.Kind, read.Settings)
	w.must(err)
	for i := range holders {
		holders[i].New, holders[i].Again = uses(holders[i].Names, false), uses(holders[i].Names, true)
		if first := holders[i].Certificate.Name == "c"; holders[i].Informed == first {
			t.Errorf("%s: the CA was asked: %v", holders[i].Certificate.Name, holders[i].Informed)
		}
	}
	used, err := w.SpentBudgets(w.ctx, read.ID)
	w.must(err)
	if n := fmt.Sprint(len(used["domain example.com"]), len(used["orders"])); n != "2 2" {
		t.Errorf("used: %v", used)
	}
	found := 0
	for _, f := range certctl.PlanRenewals(holders, certctl.Spent{holders[0].Issuer: used}, w.now(), 30).Findings {
		if f.Kind == certctl.FindingBudget {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d budgets are found used up", found)
	}
	if none, err := (issuer.Kinds{}).Budgets(certctl.IssuerLocal, nil); none != nil || err != nil {
		t.Errorf("our own CA has budgets: %v", err)
	}
}
