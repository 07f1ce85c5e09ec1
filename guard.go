package certctl

import "time"

// Guard keeps a change that we made ourselves from having too much of the fleet
// re-issued at once: an edit by label, a script, a new release that raises
// revisions. What is due for such a change alone then waits until a person
// releases it, a rollout takes it, or its own time comes. There is one guard, in
// the database, so that all replicas agree.
type Guard struct {
	ID      ID
	Share   float64   // of the fleet, above which it holds
	Least   int       // keys; smaller fleets are not guarded
	Fleet   int       // keys, when they were last counted
	Changed int       // of them, due for a change or re-issued for one within the last hour
	HeldAt  time.Time // since when it holds; zero: it does not
	Waiting int       // keys that it holds
}

// Holds reports whether more of the fleet is to be re-issued than may be at once.
func (g Guard) Holds() bool {
	return g.Fleet >= g.Least && float64(g.Changed) > g.Share*float64(g.Fleet)
}

// Validate refuses limits that mean nothing.
func (g Guard) Validate() error {
	var bad FieldErrors
	if g.Share <= 0 || g.Share > 1 {
		bad.Add("/share", "must be above 0 and at most 1")
	}
	if g.Least < 1 {
		bad.Add("/least", "must be at least 1")
	}
	return bad.Err()
}

// WaitGuard is why a holder waits although its certificate has changed.
const WaitGuard WaitReason = "guard"

// guarded is the decision about a holder that is due for a change while the
// guard holds. Its own renewal, and a tenth of its life, are never held.
func (f HolderFacts) guarded(now time.Time) Decision {
	end := HoldDeadline(f.NotBefore, f.NotAfter)
	if !f.RenewAt.IsZero() && f.RenewAt.Before(end) {
		end = f.RenewAt
	}
	if !end.After(now) {
		return Decision{Due: true, Reason: DueRevision, At: now}
	}
	return Decision{Reason: DueRevision, Wait: WaitGuard, At: end}
}
