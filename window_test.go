package certctl_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestNextOpen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cron, zone string
		duration   time.Duration
		now, want  string
	}{
		"open":                    {"0 22 * * *", "", 4 * time.Hour, "2026-11-23T23:59:00Z", "2026-11-23T23:59:00Z"},
		"just closed":             {"0 22 * * *", "", 4 * time.Hour, "2026-11-24T02:00:00Z", "2026-11-24T22:00:00Z"},
		"over midnight":           {"0 22 * * *", "", 4 * time.Hour, "2026-11-24T01:59:59Z", "2026-11-24T01:59:59Z"},
		"weekdays":                {"30 9 * * mon-fri", "", time.Hour, "2026-11-27T12:00:00Z", "2026-11-30T09:30:00Z"},
		"time zone":               {"0 2 * * *", "Europe/Berlin", time.Hour, "2026-07-01T00:30:00Z", "2026-07-01T00:30:00Z"},
		"the hour that is left":   {"30 2 * * *", "Europe/Berlin", time.Hour, "2027-03-28T00:00:00Z", "2027-03-28T01:30:00Z"},
		"the last of many":        {"*/15 8-10 1,15 jan,jun *", "", 5 * time.Minute, "2026-11-23T00:00:00Z", "2027-01-01T08:00:00Z"},
		"day or weekday":          {"0 0 13 * fri", "", time.Hour, "2026-11-23T00:00:00Z", "2026-11-27T00:00:00Z"},
		"a leap day":              {"0 0 29 2 *", "", time.Hour, "2026-11-23T00:00:00Z", "2028-02-29T00:00:00Z"},
		"Sunday is seven as well": {"0 0 * * 7", "", time.Hour, "2026-11-23T00:00:00Z", "2026-11-29T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := certctl.Window{Cron: test.cron, Duration: certctl.Duration(test.duration), TimeZone: test.zone}
			if err := w.Validate(); err != nil {
				t.Fatal(err)
			}
			now, _ := time.Parse(time.RFC3339, test.now)
			if got := certctl.NextOpen([]certctl.Window{w}, now).Format(time.RFC3339); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestWindowsThatNobodyCanMean(t *testing.T) {
	t.Parallel()
	for says, w := range map[string]certctl.Window{
		"five fields":   {Cron: "0 22 * *", Duration: certctl.Duration(time.Hour)},
		"minute":        {Cron: "60 * * * *", Duration: certctl.Duration(time.Hour)},
		"day of week":   {Cron: "0 0 * * fun", Duration: certctl.Duration(time.Hour)},
		"hour":          {Cron: "0 9-8 * * *", Duration: certctl.Duration(time.Hour)},
		"month":         {Cron: "0 0 1 1/0 *", Duration: certctl.Duration(time.Hour)},
		"never comes":   {Cron: "0 0 31 2 *", Duration: certctl.Duration(time.Hour)},
		"between 1m":    {Cron: "0 0 * * *", Duration: certctl.Duration(time.Second)},
		"Europe/Berlin": {Cron: "0 0 * * *", Duration: certctl.Duration(time.Hour), TimeZone: "Berlin"},
	} {
		if err := w.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v does not say %q", w, err, says)
		}
	}
}

func FuzzWindow(f *testing.F) {
	f.Add("0 22 * * mon-fri")
	f.Add("*/5,7 1-3/2 29 feb 0")
	f.Fuzz(func(t *testing.T, cron string) {
		w := certctl.Window{Cron: cron, Duration: certctl.Duration(time.Hour)}
		if w.Validate() != nil {
			return
		}
		at := certctl.NextOpen([]certctl.Window{w}, epoch)
		if at.Before(epoch) || !certctl.NextOpen([]certctl.Window{w}, at).Equal(at) {
			t.Errorf("opens at %s", at)
		}
	})
}

func TestHolds(t *testing.T) {
	t.Parallel()
	night := certctl.Window{Cron: "0 22 * * *", Duration: certctl.Duration(4 * time.Hour)}
	december := certctl.Freeze{StartsAt: epoch.Add(-certctl.Day), EndsAt: epoch.Add(10 * certctl.Day), Labels: map[string]string{"env": "prod"}}
	open := certctl.Freeze{StartsAt: epoch.Add(-certctl.Day)}
	hard := open
	hard.Hard = true
	prod := map[string]string{"env": "prod", "app": "shop"}
	far := epoch.Add(100 * certctl.Day)
	for name, test := range map[string]struct {
		holds    certctl.Holds
		deadline time.Time
		want     time.Time
		wait     certctl.WaitReason
	}{
		"nothing":                 {certctl.Holds{}, far, epoch, certctl.WaitNone},
		"a window":                {certctl.Holds{Windows: []certctl.Window{night}}, far, epoch.Add(10 * time.Hour), certctl.WaitWindow},
		"a window too late":       {certctl.Holds{Windows: []certctl.Window{night}}, epoch.Add(time.Hour), epoch.Add(time.Hour), certctl.WaitWindow},
		"its deadline is over":    {certctl.Holds{Windows: []certctl.Window{night}}, epoch.Add(-time.Hour), epoch, certctl.WaitNone},
		"freeze of others":        {certctl.Holds{Freezes: []certctl.Freeze{december}, Labels: map[string]string{"env": "test"}}, far, epoch, certctl.WaitNone},
		"freeze":                  {certctl.Holds{Freezes: []certctl.Freeze{december}, Labels: prod}, far, epoch.Add(10 * certctl.Day), certctl.WaitFreeze},
		"freeze, then a window":   {certctl.Holds{Freezes: []certctl.Freeze{december}, Labels: prod, Windows: []certctl.Window{night}}, far, epoch.Add(10*certctl.Day + 10*time.Hour), certctl.WaitFreeze},
		"open freeze":             {certctl.Holds{Freezes: []certctl.Freeze{open}}, far, far, certctl.WaitFreeze},
		"hard freeze":             {certctl.Holds{Freezes: []certctl.Freeze{hard}}, epoch.Add(-time.Hour), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), certctl.WaitFreeze},
		"hard freeze with window": {certctl.Holds{Freezes: []certctl.Freeze{hard}, Windows: []certctl.Window{night}}, far, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), certctl.WaitFreeze},
	} {
		at, wait := test.holds.Release(epoch, test.deadline)
		if !at.Equal(test.want) || wait != test.wait {
			t.Errorf("%s: %s for %q, want %s for %q", name, at, wait, test.want, test.wait)
		}
	}
}

// Years of renewals under a virtual clock: whatever the lifetime, the windows
// and the freezes, each certificate is renewed once per cycle, never twice for
// one, and without a hard freeze never too late.
func TestYearsOfRenewals(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	lifetimes := []time.Duration{time.Hour, 6 * certctl.Day, 47 * certctl.Day, 90 * certctl.Day, 398 * certctl.Day}
	for i := range 500 {
		lifetime := lifetimes[i%len(lifetimes)]
		policy := certctl.DefaultRenewalPolicy()
		facts := certctl.HolderFacts{Revision: 1, VersionRevision: 1, Deployed: 1, Verified: 1}
		if i%2 == 1 && lifetime > certctl.Day {
			facts.Holds.Windows = []certctl.Window{{Cron: "0 3 * * sat", Duration: certctl.Duration(3 * time.Hour)}}
		}
		if i%3 == 1 {
			start := epoch.Add(time.Duration(random.Int64N(int64(365 * certctl.Day))))
			facts.Holds.Freezes = []certctl.Freeze{{StartsAt: start, EndsAt: start.Add(21 * certctl.Day)}}
		}
		span := 3 * 365 * certctl.Day
		if lifetime < certctl.Day {
			span = 300 * lifetime
		}
		now, end := epoch, epoch.Add(span)
		renewals := 0
		issue := func() {
			facts.NotBefore, facts.NotAfter, facts.IssuedAt = now, now.Add(lifetime), now
			facts.RenewAt, _ = certctl.RenewAt(facts.NotBefore, facts.NotAfter, policy, random.Float64())
			renewals++
		}
		for issue(); now.Before(end); {
			d := certctl.HolderDue(facts, now)
			if d.Due {
				if left := facts.NotAfter.Sub(now); left < lifetime/10-time.Second {
					t.Fatalf("case %d: renewed with %s of %s left", i, left, lifetime)
				}
				issue()
				continue
			}
			if !d.At.After(now) {
				t.Fatalf("case %d: %+v at %s says nothing about when to look again", i, d, now)
			}
			now = d.At
		}
		if least, most := int(end.Sub(epoch)/lifetime), int(end.Sub(epoch)/(lifetime*2/5))+1; renewals < least || renewals > most {
			t.Errorf("case %d: %d renewals of %s in %s", i, renewals, lifetime, end.Sub(epoch))
		}
	}
}
