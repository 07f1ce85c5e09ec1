package certctl_test

import (
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestExpiryAlerts(t *testing.T) {
	t.Parallel()
	day := func(n int) certctl.Duration { return certctl.Duration(time.Duration(n) * certctl.Day) }
	thresholds := []certctl.Duration{day(1), day(30), day(7), day(14), day(7)}
	end := epoch.Add(90 * certctl.Day)
	for name, c := range map[string]struct {
		renewAt time.Time
		want    []certctl.Duration
	}{
		"renewed with a third left":  {epoch.Add(58 * certctl.Day), []certctl.Duration{day(30), day(14), day(7), day(1)}},
		"renewed with ten days left": {epoch.Add(80 * certctl.Day), []certctl.Duration{day(7), day(1)}},
		"never renewed":              {time.Time{}, []certctl.Duration{day(30), day(14), day(7), day(1)}},
	} {
		if got := certctl.ExpiryAlerts(thresholds, epoch, end, c.renewAt); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if got := certctl.ExpiryAlerts(thresholds, epoch, epoch.Add(6*certctl.Day), time.Time{}); !slices.Equal(got, []certctl.Duration{day(1)}) {
		t.Errorf("of a leaf that lives six days: %v", got)
	}
	hour := certctl.Duration(time.Hour)
	for life, want := range map[time.Duration][]certctl.Duration{
		certctl.Day: {6 * hour, certctl.Duration(144 * time.Minute)}, 10 * time.Hour: {certctl.Duration(150 * time.Minute), hour}, 59 * time.Minute: nil,
	} {
		if got := certctl.ExpiryAlerts(thresholds, epoch, epoch.Add(life), epoch.Add(life/2)); !slices.Equal(got, want) {
			t.Errorf("of a leaf that lives %s: %v, want %v", life, got, want)
		}
	}
	if got := certctl.ExpiryAlerts(nil, epoch, epoch.Add(certctl.Day), epoch.Add(12*time.Hour)); len(got) > 0 {
		t.Errorf("without thresholds: %v", got)
	}
	if got := certctl.ExpiryAlerts(thresholds, epoch, epoch.Add(certctl.Day), epoch.Add(20*time.Hour)); !slices.Equal(got, []certctl.Duration{certctl.Duration(144 * time.Minute)}) {
		t.Errorf("of one that is renewed four hours before its end: %v", got)
	}
	if got := certctl.ExpiryAlerts(thresholds, epoch, epoch.Add(certctl.Day), epoch.Add(22*time.Hour)); !slices.Equal(got, []certctl.Duration{hour / 2, hour / 5}) {
		t.Errorf("of one that is renewed two hours before its end: %v", got)
	}
	if got := certctl.ExpiryAlerts([]certctl.Duration{day(30)}, epoch, epoch.Add(40*certctl.Day), epoch.Add(20*certctl.Day)); !slices.Equal(got, []certctl.Duration{day(5), day(2)}) {
		t.Errorf("of one that lives long enough, renewed after the only threshold: %v", got)
	}
	alerts := certctl.ExpiryAlerts(thresholds, epoch, end, time.Time{})
	passed, next := certctl.ExpiryAlertsPassed(alerts, end, end.Add(-10*certctl.Day))
	if !slices.Equal(passed, alerts[:2]) || !next.Equal(end.Add(-7*certctl.Day)) {
		t.Errorf("passed %v, next %s", passed, next)
	}
	if passed, next := certctl.ExpiryAlertsPassed(alerts, end, end); len(passed) != 4 || !next.IsZero() {
		t.Errorf("at the end: %v, %s", passed, next)
	}
}
