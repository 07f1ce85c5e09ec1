package certctl_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func planned(name string, lifetime time.Duration, change func(*certctl.PlannedHolder)) certctl.PlannedHolder {
	h := certctl.PlannedHolder{
		Certificate: certctl.Ref{Name: name}, Issuer: certctl.Ref{Name: "local"}, Trust: certctl.TrustPrivate,
		Policy: certctl.DefaultRenewalPolicy(), Validity: certctl.Duration(lifetime),
		Facts: certctl.HolderFacts{Revision: 1, VersionRevision: 1, NotBefore: epoch, NotAfter: epoch.Add(lifetime), IssuedAt: epoch},
	}
	h.Facts.RenewAt, _ = certctl.RenewAt(epoch, epoch.Add(lifetime), h.Policy, 0)
	if change != nil {
		change(&h)
	}
	return h
}

func TestPlanCountsWhatWillBe(t *testing.T) {
	t.Parallel()
	plan := certctl.PlanRenewals([]certctl.PlannedHolder{planned("a", 90*certctl.Day, nil), planned("b", 47*certctl.Day, nil)}, nil, epoch, 400)
	// Every 60 days, and every 31 days and 8 hours.
	if plan.Renewals != 6+12 || len(plan.Days) != 18 || len(plan.Findings) != 0 {
		t.Errorf("%d renewals on %d days, %+v", plan.Renewals, len(plan.Days), plan.Findings)
	}
	if first := plan.Days[0]; !first.Date.Equal(time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("the first on %s", first.Date)
	}
}

func TestPlanFinds(t *testing.T) {
	t.Parallel()
	yearly := []certctl.Window{{Cron: "0 0 1 1 *", Duration: certctl.Duration(time.Hour)}}
	var crowd []certctl.PlannedHolder
	for range 50 {
		crowd = append(crowd, planned("crowd", 398*certctl.Day, nil))
	}
	for kind, holders := range map[certctl.FindingKind][]certctl.PlannedHolder{
		certctl.FindingWindow: {planned("a", 90*certctl.Day, func(h *certctl.PlannedHolder) { h.Facts.Holds.Windows = yearly })},
		certctl.FindingLate: {planned("a", 90*certctl.Day, func(h *certctl.PlannedHolder) {
			h.Facts.Holds.Freezes = []certctl.Freeze{{Hard: true, StartsAt: epoch, EndsAt: epoch.Add(100 * certctl.Day)}}
		})},
		certctl.FindingNever: {planned("a", 90*certctl.Day, func(h *certctl.PlannedHolder) { h.Facts.RenewAt = time.Time{} })},
		certctl.FindingPeak:  crowd,
		certctl.FindingShorter: {planned("a", 200*certctl.Day, func(h *certctl.PlannedHolder) {
			h.Trust = certctl.TrustPublic
		})},
	} {
		plan := certctl.PlanRenewals(holders, nil, epoch, 400)
		if len(plan.Findings) == 0 || plan.Findings[0].Kind != kind {
			t.Errorf("%s: %+v", kind, plan.Findings)
		}
	}
}

// A rate is held against what is due in as many days as it is for.
func TestPlanHoldsRatesAgainstWhatIsDue(t *testing.T) {
	t.Parallel()
	week := certctl.Rate{Count: 5, Per: certctl.Duration(7 * certctl.Day)}
	for name, c := range map[string]struct {
		rate  certctl.Rate
		holds bool
	}{
		"five a week":         {week, false},
		"six a week":          {certctl.Rate{Count: 6, Per: week.Per}, true},
		"one in three hours":  {certctl.Rate{Count: 1, Per: certctl.Duration(3 * time.Hour)}, true},
		"one in twelve hours": {certctl.Rate{Count: 1, Per: certctl.Duration(12 * time.Hour)}, false},
		"six in thirty hours": {certctl.Rate{Count: 6, Per: certctl.Duration(30 * time.Hour)}, true},
		"no rate":             {certctl.Rate{}, true},
	} {
		var crowd []certctl.PlannedHolder
		for n := range 6 {
			crowd = append(crowd, planned("crowd", 90*certctl.Day, func(h *certctl.PlannedHolder) {
				h.Rate = c.rate
				h.Facts.RenewAt = epoch.Add(time.Duration(30+n/3) * certctl.Day) // three on each of two days
			}))
		}
		found := false
		for _, finding := range certctl.PlanRenewals(crowd, nil, epoch, 60).Findings {
			if finding.Kind == certctl.FindingBudget {
				found = true
				if finding.Object.Name != "local" || !finding.Date.Equal(epoch.Add(30*certctl.Day).UTC().Truncate(certctl.Day)) {
					t.Errorf("%s: %+v", name, finding)
				}
			}
		}
		if found == c.holds {
			t.Errorf("%s: found %v", name, found)
		}
	}
}

func TestPublicValidityShrinks(t *testing.T) {
	t.Parallel()
	for date, want := range map[string]string{"2026-03-14": "398d", "2026-11-24": "200d", "2027-03-15": "100d", "2029-03-14": "100d", "2029-03-15": "47d"} {
		at, _ := time.Parse(time.DateOnly, date)
		if got := certctl.MaxPublicValidity(at); got.String() != want {
			t.Errorf("%s: %s", date, got)
		}
	}
}
