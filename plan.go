package certctl

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// PlannedHolder is what the plan of coming renewals knows of one key.
type PlannedHolder struct {
	Certificate Ref
	Issuer      Ref
	Kind        string          // of the issuer
	Settings    json.RawMessage // its; holders of one issuer share them
	Trust       TrustClass
	Facts       HolderFacts
	Policy      RenewalPolicy
	Rate        Rate     // of the issuer
	Validity    Duration // of the profile
	Spread      float64  // where in the jitter it lies, in [0,1)
	Names       Names
	Informed    bool // its CA says when to renew it: renewals replace, and count nowhere
	// New and Again are the budgets of the issuer's account that a first leaf comes
	// under, and one that takes the place of a leaf for the same names.
	New, Again []BudgetUse
}

// Spent are the uses of budgets that an issuer's account has had, by key.
type Spent map[Ref]map[string][]time.Time

// RenewalPlan is a simulation of the renewals to come, by the same decisions as
// the real ones.
type RenewalPlan struct {
	From, Until time.Time
	Keys        int // that were looked at
	Renewals    int
	Days        []PlanDay // with renewals only, by date, then issuer
	Findings    []PlanFinding
}

// PlanDay is one day of one issuer.
type PlanDay struct {
	Date     time.Time // midnight UTC
	Issuer   Ref
	Renewals int
}

// FindingKind says what is wrong with a plan.
type FindingKind string

// What may be wrong with a plan.
const (
	FindingLate    FindingKind = "renewed_too_late"  // the leaf will have expired
	FindingWindow  FindingKind = "window_too_late"   // renewed outside every window, else it would expire
	FindingPeak    FindingKind = "peak"              // a day with many more renewals than others
	FindingNever   FindingKind = "never_renewed"     // will expire: nothing renews it
	FindingShorter FindingKind = "validity_shortens" // a rule of public CAs cuts what the profile asks for
	FindingBudget  FindingKind = "over_budget"       // more renewals than the issuer's rate lets through
	FindingMany    FindingKind = "too_many"          // the plan is cut off
)

// PlanFinding is something to do about, with the day on which it first shows.
type PlanFinding struct {
	Kind    FindingKind
	Object  Ref // certificate or issuer
	Date    time.Time
	Message string
}

// MaxPlanDays bounds a plan.
const MaxPlanDays = 1000

const (
	maxPlanSteps    = 3_000_000 // renewals and waits that are simulated
	maxPlanFindings = 500
	peakFactor      = 3  // times the mean makes a peak
	peakLeast       = 10 // renewals
)

// planner collects what the simulation of each key gives.
type planner struct {
	plan   *RenewalPlan
	counts map[PlanDay]int
	rates  map[Ref]Rate         // by issuer
	spends map[spendKey]*spend  // of accounts' budgets
	seen   map[PlanFinding]bool // without dates and texts
	steps  int
}

// PlanRenewals simulates the renewals of keys from now on for a number of days.
// It assumes that issuing and installing succeed at once.
func PlanRenewals(holders []PlannedHolder, spent Spent, now time.Time, days int) RenewalPlan {
	plan := RenewalPlan{From: now, Until: now.Add(time.Duration(days) * Day), Keys: len(holders)}
	p := &planner{plan: &plan, counts: map[PlanDay]int{}, rates: map[Ref]Rate{}, spends: map[spendKey]*spend{}, seen: map[PlanFinding]bool{}}
	for _, h := range holders {
		p.rates[h.Issuer] = h.Rate
		p.simulate(h)
	}
	for day, n := range p.counts {
		day.Renewals = n
		plan.Days = append(plan.Days, day)
		plan.Renewals += n
	}
	slices.SortFunc(plan.Days, func(a, b PlanDay) int {
		return cmp.Or(a.Date.Compare(b.Date), cmp.Compare(a.Issuer.Name, b.Issuer.Name))
	})
	p.peaks(days)
	p.budgets()
	p.accounts(spent)
	slices.SortStableFunc(plan.Findings, func(a, b PlanFinding) int { return a.Date.Compare(b.Date) })
	return plan
}

// simulate follows one key until the plan ends.
func (p *planner) simulate(h PlannedHolder) {
	facts := h.Facts
	for now := p.plan.From; now.Before(p.plan.Until); p.steps++ {
		if p.steps >= maxPlanSteps {
			p.find(FindingMany, Ref{}, now, "the plan has more than %d steps and is cut off: ask for fewer days, or for one team or issuer", maxPlanSteps)
			return
		}
		d := HolderDue(facts, now)
		if !d.Due {
			if !d.At.After(now) { // nothing will happen by itself
				if facts.NotAfter.Before(p.plan.Until) && !facts.NotAfter.IsZero() && !facts.Unmanaged {
					p.find(FindingNever, h.Certificate, facts.NotAfter, "ends, and nothing renews it: its policy has auto_renew off, or it is paused")
				}
				return
			}
			now = d.At
			continue
		}
		p.counts[PlanDay{Date: now.UTC().Truncate(Day), Issuer: h.Issuer}]++
		p.spend(h, facts, now)
		p.judge(h, facts, now)
		facts = p.renewed(h, facts, now)
	}
}

// judge looks at a renewal that takes place.
func (p *planner) judge(h PlannedHolder, facts HolderFacts, now time.Time) {
	if facts.VersionRevision == 0 || facts.Revoked {
		return
	}
	switch {
	case now.After(facts.NotAfter):
		p.find(FindingLate, h.Certificate, now, "is renewed after it has ended: a hard freeze holds it, or it has ended already")
	case !NextOpen(facts.Holds.Windows, now).Equal(now):
		p.find(FindingWindow, h.Certificate, now, "is renewed outside its windows: the next one opens too late for its life of %s", Duration(facts.NotAfter.Sub(facts.NotBefore).Round(time.Minute)))
	}
}

// renewed is what is known of the key after a renewal at a time.
func (p *planner) renewed(h PlannedHolder, facts HolderFacts, now time.Time) HolderFacts {
	validity := h.Validity
	if longest := MaxPublicValidity(now); h.Trust == TrustPublic && longest < validity {
		validity = longest
		p.find(FindingShorter, h.Certificate, now, "gets %s instead of %s: public CAs give no more from then on", longest, h.Validity)
	}
	facts.NotBefore, facts.NotAfter, facts.IssuedAt = now, now.Add(time.Duration(validity)), now
	facts.VersionRevision, facts.Revoked, facts.Verified = max(facts.Revision, 1), false, facts.Deployed
	facts.Revision, facts.Waiting = facts.VersionRevision, 0
	facts.RenewAt, _ = RenewAt(facts.NotBefore, facts.NotAfter, h.Policy, h.Spread)
	return facts
}

// find notes a finding once per kind and object.
func (p *planner) find(kind FindingKind, object Ref, at time.Time, format string, args ...any) {
	key := PlanFinding{Kind: kind, Object: object}
	if p.seen[key] || len(p.plan.Findings) >= maxPlanFindings {
		return
	}
	p.seen[key] = true
	p.plan.Findings = append(p.plan.Findings, PlanFinding{kind, object, at, fmt.Sprintf(format, args...)})
}

// peaks notes the fullest day of each issuer that stands out.
func (p *planner) peaks(days int) {
	total, fullest := map[Ref]int{}, map[Ref]PlanDay{}
	for _, day := range p.plan.Days {
		total[day.Issuer] += day.Renewals
		if day.Renewals > fullest[day.Issuer].Renewals {
			fullest[day.Issuer] = day
		}
	}
	for issuer, day := range fullest {
		mean := float64(total[issuer]) / float64(days)
		if day.Renewals >= peakLeast && float64(day.Renewals) > peakFactor*mean {
			p.find(FindingPeak, issuer, day.Date, "%d renewals on one day, while %.1f is the mean", day.Renewals, mean)
		}
	}
}

// budgets notes, for each issuer with a rate, the first stretch of days in which
// more is due than the rate lets through. What is beyond it waits.
func (p *planner) budgets() {
	for issuer, rate := range p.rates {
		if rate.Count <= 0 || rate.Per <= 0 {
			continue
		}
		span := max(1, int((time.Duration(rate.Per)+Day-1)/Day)) // days
		allowed := int(float64(rate.Count) * float64(time.Duration(span)*Day) / float64(rate.Per))
		var stretch []PlanDay
		sum := 0
		for _, day := range p.plan.Days {
			if day.Issuer != issuer {
				continue
			}
			stretch, sum = append(stretch, day), sum+day.Renewals
			for stretch[0].Date.Before(day.Date.Add(-time.Duration(span-1) * Day)) {
				stretch, sum = stretch[1:], sum-stretch[0].Renewals
			}
			if sum > allowed {
				p.find(FindingBudget, issuer, stretch[0].Date, "%d renewals within %s, while its rate lets %d through: the rest waits", sum, Duration(time.Duration(span)*Day), allowed)
				break
			}
		}
	}
}
