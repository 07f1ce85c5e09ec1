package certctl

import "time"

// The circuit breaker of an issuer is a few columns that all replicas share:
//
//	healthy ── outage ──► degraded ── OutagesToOpen in a row ──► down
//	   ▲                     │                                    │ one order at a
//	   └────── an answer ────┴──────────── an answer ─────────────┘ time probes
//
// An outage is a failure of the issuer itself: it did not answer, or said that it
// cannot now. What it says about one order is an answer.

// OutagesToOpen is after how many outages in a row an issuer is down.
const OutagesToOpen = 5

// BreakerPause returns how long an issuer that is down is left alone before one
// order probes it: half a minute, doubling up to ten minutes.
func BreakerPause(outages int) time.Duration {
	const first, most = 30 * time.Second, 10 * time.Minute
	over := max(outages-OutagesToOpen, 0)
	if over > 5 {
		return most
	}
	return min(most, first<<over)
}

// DefaultFailoverAfter is how long an issuer must be down before the next one of
// a certificate takes over, unless the policy says otherwise.
const DefaultFailoverAfter = Duration(time.Hour)

// FailoverFacts is what Failover needs to know of an order whose issuer is down.
type FailoverFacts struct {
	DownSince time.Time
	After     Duration  // the policy's patience; 0: the default
	NotBefore time.Time // of the leaf to be replaced; zero without one
	NotAfter  time.Time
	Next      []FailoverCandidate // the certificate's other issuers, in order of preference
	Trust     TrustClass          // of the issuer that is down
}

// FailoverCandidate is an issuer that could take over.
type FailoverCandidate struct {
	ID     ID
	Trust  TrustClass
	Health Health
	Paused bool
}

// Failover returns the issuer that takes an order over: the next one of the same
// trust class that is not down itself, once the patience has passed or a fifth
// of the old leaf's life is left.
func Failover(f FailoverFacts, now time.Time) (ID, bool) {
	after := f.After
	if after == 0 {
		after = DefaultFailoverAfter
	}
	lifetime := f.NotAfter.Sub(f.NotBefore)
	urgent := !f.NotAfter.IsZero() && f.NotAfter.Sub(now) < lifetime/5
	if !urgent && now.Sub(f.DownSince) < time.Duration(after) {
		return NoID, false
	}
	for _, c := range f.Next {
		if c.Trust == f.Trust && c.Health != HealthDown && !c.Paused {
			return c.ID, true
		}
	}
	return NoID, false
}
