package certctl

import "time"

// Replacement says when the holders of revoked versions get new leaves.
type Replacement string

const (
	ReplaceByReason Replacement = ""       // see RevocationReason.Replacement
	ReplaceBefore   Replacement = "before" // a new leaf is ordered; the old one is revoked once it is replaced
	ReplaceAfter    Replacement = "after"  // revoked now, the new leaf ordered first in line
	ReplaceNo       Replacement = "no"     // revoked now; the next leaf comes when it is due
)

// Replacement is when a version that is revoked for the reason is replaced,
// unless somebody says otherwise. Who has lost a key wants it out of use now;
// who changes his mind wants nobody to notice.
func (r RevocationReason) Replacement() Replacement {
	switch r {
	case ReasonKeyCompromise:
		return ReplaceAfter
	case ReasonSuperseded:
		return ReplaceBefore
	}
	return ReplaceNo
}

// Replacement returns when what a request revokes is replaced, or refuses what
// it asks for.
func (r RevokeRequest) Replacement() (Replacement, error) {
	return replacement(r.Reason, r.Replace)
}

func replacement(reason RevocationReason, wanted Replacement) (Replacement, error) {
	switch wanted {
	case ReplaceByReason:
		return reason.Replacement(), nil
	case ReplaceBefore:
		if reason == ReasonKeyCompromise {
			return "", InvalidField("/replace", "a compromised key is revoked at once: replace it after, or not at all")
		}
		return wanted, nil
	case ReplaceAfter, ReplaceNo:
		return wanted, nil
	}
	return "", InvalidField("/replace", "must be before, after or no")
}

// Revocation is the duty to revoke one version at its issuer. In the state
// waiting it has not begun: the version is good until it is replaced.
type Revocation struct {
	Version     ID
	Certificate Ref
	Holder      ID
	Serial      Serial
	Issuer      ID
	Reason      RevocationReason
	State       RevocationState
	Rollout     ID // that orders the replacement
	Tries       int
	Message     string // of the issuer
	DueAt       time.Time
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

const (
	RevocationWaiting   RevocationState = "waiting"   // for the replacement; may be cancelled
	RevocationCancelled RevocationState = "cancelled" // while it waited
)

// ReplacementFacts is what decides about a revocation that waits.
type ReplacementFacts struct {
	Expired  bool      // the version has ended by itself
	Gone     bool      // nobody will replace it: its holder has ended, its certificate is archived or has no issuer
	Replaced bool      // the holder has another version now
	Bound    int       // live bindings of the holder
	Verified int       // of them, where that version is verified
	Paced    bool      // a rollout orders the replacement
	Open     bool      // an order of the holder is live
	Ordered  time.Time // when the replacement was last ordered for it
	Since    time.Time // when the wait began
}

// ReplacementStep is what is done about a revocation that waits.
type ReplacementStep string

const (
	ReplacementWait   ReplacementStep = "wait"
	ReplacementOrder  ReplacementStep = "order"  // nobody does any more: once more
	ReplacementRevoke ReplacementStep = "revoke" // the version is in use nowhere
	ReplacementDrop   ReplacementStep = "drop"   // there is nothing left to revoke
)

// Times of a revocation that waits.
const (
	replaceAgain   = Day // between two orders of a replacement that was refused or cancelled
	leastLookAgain = 2 * time.Second
	mostLookAgain  = 10 * time.Minute
)

// Next says what is done now, and when to look again.
func (f ReplacementFacts) Next(now time.Time) (ReplacementStep, time.Time) {
	again := lookAgain(f.Since, now)
	switch {
	case f.Expired:
		return ReplacementDrop, time.Time{}
	case f.Gone, f.Replaced && f.Verified >= f.Bound:
		return ReplacementRevoke, time.Time{}
	case f.Replaced, f.Open, f.Paced:
		return ReplacementWait, again
	case now.Before(f.Ordered.Add(replaceAgain)):
		return ReplacementWait, f.Ordered.Add(replaceAgain)
	}
	return ReplacementOrder, again
}

// lookAgain is when something is looked at again that has waited since a time:
// soon at first, less often the longer it takes.
func lookAgain(since, now time.Time) time.Time {
	return now.Add(min(max(now.Sub(since)/10, leastLookAgain), mostLookAgain))
}
