package certctl

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// spendKey is one budget of an issuer's account.
type spendKey struct {
	issuer Ref
	key    string
}

// spend is what a plan takes of a budget.
type spend struct {
	use   BudgetUse
	about Ref // the certificate that uses it first
	at    []time.Time
}

// maxSpends bounds the uses of one budget that a plan remembers: more of them show
// nothing that the first do not.
const maxSpends = 100_000

// spend notes what a leaf takes of the budgets of its issuer's account.
func (p *planner) spend(h PlannedHolder, facts HolderFacts, now time.Time) {
	uses := h.Again
	switch {
	case facts.VersionRevision == 0:
		uses = h.New
	case h.Informed:
		return
	}
	for _, use := range uses {
		key := spendKey{h.Issuer, use.Key}
		if p.spends[key] == nil {
			p.spends[key] = &spend{use: use, about: h.Certificate}
		}
		if s := p.spends[key]; len(s.at) < maxSpends {
			s.at = append(s.at, now)
		}
	}
}

// accounts notes each budget of an account that would be used up, with the first
// moment at which it is. What is beyond it waits until there is room.
func (p *planner) accounts(spent Spent) {
	keys := slices.SortedFunc(maps.Keys(p.spends), func(a, b spendKey) int {
		return cmp.Or(cmp.Compare(a.issuer.Name, b.issuer.Name), cmp.Compare(a.key, b.key))
	})
	for _, key := range keys {
		s := p.spends[key]
		per := time.Duration(s.use.Rate.Per)
		all := slices.Concat(spent[key.issuer][key.key], s.at)
		slices.SortFunc(all, time.Time.Compare)
		for i := s.use.Rate.Count; i < len(all); i++ {
			first := all[i-s.use.Rate.Count]
			if all[i].Sub(first) >= per || all[i].Before(p.plan.From) {
				continue
			}
			most := i
			for ; most+1 < len(all) && all[most+1].Sub(first) < per; most++ {
			}
			p.overspent(key, s, all[i], most-i+1, first.Add(per))
			break
		}
	}
}

func (p *planner) overspent(key spendKey, s *spend, at time.Time, beyond int, room time.Time) {
	if len(p.plan.Findings) >= maxPlanFindings {
		return
	}
	what := s.use.Counts()
	if s.use.Key[:min(len(s.use.Key), len(BudgetNames))] == BudgetNames {
		what = "certificates for exactly the names of " + s.about.Name
	}
	p.plan.Findings = append(p.plan.Findings, PlanFinding{
		FindingBudget, key.issuer, at, fmt.Sprintf("%d %s more than its budget of %d in %s: the first of them waits until %s",
			beyond, what, s.use.Rate.Count, s.use.Rate.Per, room.UTC().Format(time.DateOnly)),
	})
}
