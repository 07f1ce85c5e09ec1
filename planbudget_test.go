package certctl_test

import (
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// The plan says when new certificates and renewals use up what their account has,
// with what has been used already, and leaves out what a CA counts nowhere.
func TestPlanHoldsBudgetsOfAccounts(t *testing.T) {
	t.Parallel()
	week := certctl.Rate{Count: 3, Per: certctl.Duration(7 * certctl.Day)}
	domain := certctl.BudgetUse{Key: certctl.BudgetDomain + "example.com", Rate: week}
	names := certctl.BudgetUse{Key: certctl.BudgetNames + "digest", Rate: week}
	acme := certctl.Ref{Name: "acme"}
	fresh := func(h *certctl.PlannedHolder) {
		h.Issuer, h.New, h.Again = acme, []certctl.BudgetUse{domain, names}, []certctl.BudgetUse{names}
		h.Facts = certctl.HolderFacts{Revision: 1}
	}
	renewed := func(informed bool) func(*certctl.PlannedHolder) {
		return func(h *certctl.PlannedHolder) {
			h.Issuer, h.New, h.Again, h.Informed = acme, []certctl.BudgetUse{domain, names}, []certctl.BudgetUse{names}, informed
		}
	}
	old := func(ages ...time.Duration) certctl.Spent {
		spent := map[string][]time.Time{}
		for _, age := range ages {
			spent[domain.Key] = append(spent[domain.Key], epoch.Add(-age))
		}
		return certctl.Spent{acme: spent}
	}
	for name, c := range map[string]struct {
		change func(*certctl.PlannedHolder)
		keys   int
		spent  certctl.Spent
		want   []string
	}{
		"as many as there is room":       {fresh, 3, nil, nil},
		"one too many":                   {fresh, 4, nil, []string{"1 certificates for example.com and all below it more than its budget of 3 in 7d", "for exactly the names of a more"}},
		"with what was used":             {fresh, 2, old(6*certctl.Day, certctl.Day), []string{"example.com and all below it more than its budget of 3 in 7d: the first of them waits until " + epoch.Add(certctl.Day).Format(time.DateOnly)}},
		"what was used counts no more":   {fresh, 3, old(8 * certctl.Day), nil},
		"renewals for the names":         {renewed(false), 4, nil, []string{"for exactly the names of a more"}},
		"renewals that the CA asked for": {renewed(true), 4, nil, nil},
	} {
		var holders []certctl.PlannedHolder
		for range c.keys {
			holders = append(holders, planned("a", 90*certctl.Day, c.change))
		}
		var found []string
		for _, f := range certctl.PlanRenewals(holders, c.spent, epoch, 61).Findings {
			if f.Kind == certctl.FindingBudget {
				found = append(found, f.Message)
				if f.Object != acme {
					t.Errorf("%s: about %+v", name, f.Object)
				}
			}
		}
		if len(found) != len(c.want) {
			t.Errorf("%s: %q", name, found)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(found[i], want) {
				t.Errorf("%s: %q, not %q", name, found[i], want)
			}
		}
	}
}
