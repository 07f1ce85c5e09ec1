package certctl

import "time"

// AuthorityNext is the state of an authority that is published and signs nothing
// yet: relying parties learn of it before its first leaf.
const AuthorityNext AuthorityState = "next"

// RolloverOverlap is how long an authority is published before it signs.
const RolloverOverlap = 7 * Day

// Events of authorities that replace each other.
const (
	EventAuthorityRetired EventName = "authority_retired" // its last leaf has ended
)

// RolloverDue reports whether an authority needs its successor made: less than
// twice the longest validity of a leaf is left, so that leaves would soon have to
// be shorter than their profile says. One that lives no longer than that itself
// is followed when half of its life has passed.
func RolloverDue(notBefore, notAfter time.Time, longest time.Duration, now time.Time) bool {
	return notAfter.Sub(now) < min(2*longest, notAfter.Sub(notBefore)/2)
}
