package acme

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
	legoacme "github.com/go-acme/lego/v4/acme"
	"golang.org/x/net/publicsuffix"
)

// Budgets are what certctl takes of a CA's limits, with all its workers. A limit
// that is not set is that of the directory's row in publishedBudgets.
type Budgets struct {
	Orders   *Budget `json:"orders,omitempty"`                  // of the account
	Domain   *Budget `json:"certificates_per_domain,omitempty"` // registered domain: example.com for a.b.example.com
	Names    *Budget `json:"certificates_per_names,omitempty"`  // exactly the same names
	Failures *Budget `json:"failures_per_name,omitempty"`       // failed validations
}

// Budget is so many in a time; 0: as many as there are.
type Budget struct {
	Count int    `json:"count"`
	Per   string `json:"per"`
}

// publishedBudgets are a little less than what CAs publish as their limits.
var publishedBudgets = map[string]Budgets{
	// https://letsencrypt.org/docs/rate-limits/, 2025: 300 per 3 hours, 50 and 5 per
	// 7 days, 5 per hour.
	directories["letsencrypt"]: {
		Orders: &Budget{280, "3h"}, Domain: &Budget{45, "7d"}, Names: &Budget{5, "7d"}, Failures: &Budget{4, "1h"},
	},
}

// longestBudget is less than what uses are kept for.
const longestBudget = 31 * certctl.Day

func (b Budgets) all() map[string]*Budget {
	return map[string]*Budget{
		"orders": b.Orders, "certificates_per_domain": b.Domain, "certificates_per_names": b.Names, "failures_per_name": b.Failures,
	}
}

func (b Budgets) check(bad *certctl.FieldErrors) {
	for name, budget := range b.all() {
		if budget == nil {
			continue
		}
		per, err := certctl.ParseDuration(budget.Per)
		switch {
		case budget.Count < 0 || budget.Count > 1_000_000:
			bad.Add("/settings/budgets/"+name+"/count", "must be 0 to 1000000")
		case budget.Count > 0 && (err != nil || time.Duration(per) < time.Second || time.Duration(per) > longestBudget):
			bad.Add("/settings/budgets/"+name+"/per", "must be 1s to 31d")
		}
	}
}

// rate is a budget, or else the published one; the zero Rate is none.
func rate(set, published *Budget) certctl.Rate {
	if set == nil {
		set = published
	}
	if set == nil || set.Count == 0 {
		return certctl.Rate{}
	}
	per, _ := certctl.ParseDuration(set.Per) // checked
	return certctl.Rate{Count: set.Count, Per: per}
}

// registeredDomain is what a CA counts a name under: the domain below a public
// suffix, an IPv4 address, or an IPv6 network of 64 bits.
func registeredDomain(name string) string {
	if addr, err := netip.ParseAddr(name); err == nil {
		if addr.Is6() {
			network, _ := addr.Prefix(64)
			return network.String()
		}
		return name
	}
	name = strings.TrimPrefix(name, "*.")
	domain, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil {
		return name
	}
	return domain
}

// uses are the limits that an order comes under.
func (a *attempt) uses(names []string) []certctl.BudgetUse {
	return a.ca.settings.uses(names, a.renews())
}

// uses are the limits that an order for sorted names comes under. CAs count a
// renewal, for exactly the names of the predecessor, under no domain.
func (s Settings) uses(names []string, renewal bool) []certctl.BudgetUse {
	set, published := s.Budgets, publishedBudgets[s.Directory]
	var all []certctl.BudgetUse
	add := func(key string, r certctl.Rate, kept bool) {
		for _, use := range all {
			if use.Key == key {
				return
			}
		}
		if r.Count > 0 {
			all = append(all, certctl.BudgetUse{Key: key, Rate: r, Kept: kept})
		}
	}
	if !renewal {
		add(certctl.BudgetOrders, rate(set.Orders, published.Orders), false)
	}
	add(certctl.BudgetNames+namesDigest(names).String(), rate(set.Names, published.Names), false)
	for _, name := range names {
		if !renewal {
			add(certctl.BudgetDomain+registeredDomain(name), rate(set.Domain, published.Domain), false)
		}
		add(certctl.BudgetFailures+strings.TrimPrefix(name, "*."), rate(set.Failures, published.Failures), true)
	}
	return all
}

// PlannedUses are the limits that new certificates and renewals for names would
// come under, for an issuer with such settings.
func PlannedUses(raw json.RawMessage) (func(names certctl.Names, renewal bool) []certctl.BudgetUse, error) {
	s, err := parseSettings(raw)
	return func(names certctl.Names, renewal bool) []certctl.BudgetUse {
		sorted := identifiers(names)
		slices.Sort(sorted)
		return slices.DeleteFunc(s.uses(sorted, renewal), func(use certctl.BudgetUse) bool { return use.Kept })
	}, err
}

// spend counts the order that is about to be made, or waits until a budget has
// room for it.
func (a *attempt) spend(ctx context.Context, names []string) error {
	uses := a.uses(names)
	if len(uses) == 0 {
		return nil
	}
	full, err := a.ca.store.SpendExternal(ctx, certctl.ExternalSpend{Account: a.account.ID, Order: a.attempt.Order, Uses: uses})
	if err != nil || full.After == 0 {
		return err
	}
	return &certctl.Pause{
		After: full.After, Wait: certctl.WaitBudget,
		Message: "the budget of " + strconv.Itoa(full.Use.Rate.Count) + " " + full.Use.Counts() + " in " + full.Use.Rate.Per.String() +
			" is used up until " + full.Until.UTC().Format(time.RFC3339),
	}
}

// invalid ends the attempt for a name that the CA could not validate, and counts
// the failure, as the CA does.
func (a *attempt) invalid(ctx context.Context, p proof, authorization legoacme.Authorization) error {
	name := strings.TrimPrefix(p.Name, "*.")
	if err := a.ca.store.CountExternalFailure(ctx, a.account.ID, a.attempt.Order, name); err != nil {
		return err
	}
	return authorizationInvalid(p, authorization)
}
