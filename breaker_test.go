package certctl_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestFailover(t *testing.T) {
	t.Parallel()
	down, paused, public, good := certctl.NewID(epoch), certctl.NewID(epoch), certctl.NewID(epoch), certctl.NewID(epoch)
	facts := certctl.FailoverFacts{
		DownSince: epoch, Trust: certctl.TrustPrivate, NotBefore: epoch.Add(-50 * certctl.Day), NotAfter: epoch.Add(40 * certctl.Day),
		Next: []certctl.FailoverCandidate{
			{ID: down, Trust: certctl.TrustPrivate, Health: certctl.HealthDown}, {ID: paused, Trust: certctl.TrustPrivate, Paused: true},
			{ID: public, Trust: certctl.TrustPublic}, {ID: good, Trust: certctl.TrustPrivate, Health: certctl.HealthUnknown},
		},
	}
	for name, test := range map[string]struct {
		change func(*certctl.FailoverFacts)
		after  time.Duration
		want   certctl.ID
	}{
		"patience":           {after: 59 * time.Minute},
		"no patience left":   {after: time.Hour, want: good},
		"the policy's own":   {change: func(f *certctl.FailoverFacts) { f.After = certctl.Duration(time.Minute) }, after: time.Minute, want: good},
		"the end is near":    {change: func(f *certctl.FailoverFacts) { f.NotAfter = epoch.Add(certctl.Day) }, after: time.Minute, want: good},
		"nobody is left":     {change: func(f *certctl.FailoverFacts) { f.Next = f.Next[:3] }, after: 100 * time.Hour},
		"no leaf to be lost": {change: func(f *certctl.FailoverFacts) { f.NotBefore, f.NotAfter = time.Time{}, time.Time{} }, after: time.Minute},
	} {
		f := facts
		if test.change != nil {
			test.change(&f)
		}
		if got, ok := certctl.Failover(f, epoch.Add(test.after)); got != test.want || ok != !test.want.IsZero() {
			t.Errorf("%s: %s, %v", name, got, ok)
		}
	}
	for outages, want := range map[int]time.Duration{5: 30 * time.Second, 6: time.Minute, 9: 8 * time.Minute, 10: 10 * time.Minute, 1000: 10 * time.Minute} {
		if got := certctl.BreakerPause(outages); got != want {
			t.Errorf("after %d outages: %s", outages, got)
		}
	}
}
