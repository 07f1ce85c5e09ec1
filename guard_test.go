package certctl_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestTheGuardHoldsWhatAChangeAloneMakesDue(t *testing.T) {
	t.Parallel()
	changed := certctl.HolderFacts{
		Revision: 2, VersionRevision: 1, Guarded: true, NotBefore: epoch, IssuedAt: epoch, NotAfter: epoch.Add(100 * certctl.Day), RenewAt: epoch.Add(60 * certctl.Day),
	}
	for name, test := range map[string]struct {
		change func(*certctl.HolderFacts)
		at     time.Duration
		due    bool
		wait   certctl.WaitReason
		until  time.Duration
	}{
		"held":                    {at: certctl.Day, wait: certctl.WaitGuard, until: 60 * certctl.Day},
		"released":                {change: func(f *certctl.HolderFacts) { f.Guarded = false }, at: certctl.Day, due: true, until: certctl.Day},
		"its own time has come":   {at: 60 * certctl.Day, due: true, until: 60 * certctl.Day},
		"never renewed by itself": {change: func(f *certctl.HolderFacts) { f.RenewAt = time.Time{} }, at: certctl.Day, wait: certctl.WaitGuard, until: 90 * certctl.Day},
		"a tenth of life is left": {change: func(f *certctl.HolderFacts) { f.RenewAt = time.Time{} }, at: 90 * certctl.Day, due: true, until: 90 * certctl.Day},
		"revoked":                 {change: func(f *certctl.HolderFacts) { f.Revoked = true }, at: certctl.Day, due: true, until: certctl.Day},
		"without a leaf":          {change: func(f *certctl.HolderFacts) { f.VersionRevision = 0 }, at: certctl.Day, due: true, until: certctl.Day},
	} {
		facts := changed
		if test.change != nil {
			test.change(&facts)
		}
		d := certctl.HolderDue(facts, epoch.Add(test.at))
		if d.Due != test.due || d.Wait != test.wait || !d.At.Equal(epoch.Add(test.until)) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestTheGuardHoldsAboveItsShare(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fleet, changed int
		holds          bool
	}{
		"a fifth":                 {100, 20, false},
		"more than a fifth":       {100, 21, true},
		"all of a small fleet":    {49, 49, false},
		"all of one large enough": {50, 50, true},
		"nothing":                 {0, 0, false},
	} {
		g := certctl.Guard{Share: 0.2, Least: 50, Fleet: test.fleet, Changed: test.changed}
		if g.Holds() != test.holds {
			t.Errorf("%s: %v", name, g.Holds())
		}
	}
	for _, bad := range []certctl.Guard{{Share: 0, Least: 1}, {Share: 1.1, Least: 1}, {Share: 0.5}} {
		if certctl.ErrorCode(bad.Validate()) != certctl.Invalid {
			t.Errorf("%+v is let through", bad)
		}
	}
}
