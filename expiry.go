package certctl

import (
	"slices"
	"time"
)

// EventCertificateExpiring says that a leaf which is served has passed one of
// its policy's alert thresholds: once per leaf and threshold.
const EventCertificateExpiring EventName = "certificate_expiring"

// leastAlerted is the shortest life of which people are told: what ends sooner is
// over before anybody has read of it.
const leastAlerted = time.Hour

// ExpiryAlerts are the thresholds before the end of a leaf at which people are
// told, the longest first: those of the policy, without those at which the leaf
// would not have been renewed yet, since all is well then (renewAt zero: it is
// not renewed by itself). A leaf that lives too short for any of them has a quarter
// and a tenth of its life instead; one that is renewed too late for any, of the time
// from then to its end. A policy without thresholds has none.
func ExpiryAlerts(thresholds []Duration, notBefore, notAfter, renewAt time.Time) []Duration {
	life := notAfter.Sub(notBefore)
	room := life
	if !renewAt.IsZero() {
		room = notAfter.Sub(renewAt)
	}
	fits := func(thresholds []Duration) (out []Duration) {
		for _, t := range thresholds {
			if time.Duration(t) < room {
				out = append(out, t)
			}
		}
		return out
	}
	if len(thresholds) == 0 {
		return nil
	}
	out := fits(thresholds)
	if len(out) == 0 && life >= leastAlerted && time.Duration(slices.Min(thresholds)) >= life {
		out = fits([]Duration{Duration(life / 4), Duration(life / 10)})
	}
	if len(out) == 0 && life >= leastAlerted {
		out = fits([]Duration{Duration(room / 4), Duration(room / 10)})
	}
	slices.Sort(out)
	slices.Reverse(out)
	return slices.Compact(out)
}

// ExpiryAlertsPassed returns those of the alerts that are due now, and when the
// next one is; zero for never.
func ExpiryAlertsPassed(alerts []Duration, notAfter, now time.Time) (passed []Duration, next time.Time) {
	for i, t := range alerts {
		if at := notAfter.Add(-time.Duration(t)); at.After(now) {
			return alerts[:i], at
		}
	}
	return alerts, time.Time{}
}
