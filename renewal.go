package certctl

import "time"

// HolderFacts is what HolderDue needs to know of a holder.
type HolderFacts struct {
	Revision        int64 // of the certificate
	VersionRevision int64 // of the newest version; 0 without one
	Revoked         bool  // the newest version or its key
	Recalled        bool  // its CA wants the newest version replaced at once
	Deployed        int   // live bindings of this holder
	Verified        int   // of them, where the newest version is verified
	NotBefore       time.Time
	NotAfter        time.Time
	IssuedAt        time.Time
	RenewAt         time.Time // zero: never by itself
	Unmanaged       bool      // no issuer, archived, or monitored
	Paused          bool
	Holds           Holds // issue windows and freezes

	// Of a shared key, while members wait for it:
	Waiting      int       // live members that neither have it nor are sent it
	WaitingSince time.Time // the longest of them
	Givers       int       // members that have it
	GiverOnline  bool      // one of them could seal it now

	Guarded bool // by the guard, while it is due for a change alone
}

// Reasons for a new leaf.
const (
	DueNoVersion = "no_version"
	DueRevoked   = "revoked"
	DueRecalled  = "recalled" // its CA is about to revoke it
	DueRevision  = "revision" // the certificate has changed since
	DueRenewAt   = "renew_at" // its time has come
	DueKey       = "key"      // members wait for a shared key that nobody can give them
)

// Decision is what HolderDue says of a holder.
type Decision struct {
	Due    bool       // a new leaf is to be ordered now
	Reason string     // why it is due, or will be: one of the Due words; "" for never
	Wait   WaitReason // what keeps it back although it is due
	At     time.Time  // when to look again; zero: not before something changes
}

// recheck is how often a holder is looked at whose freeze has no end.
const recheck = Day

// HolderDue says whether a holder needs a new leaf now, and otherwise when to
// look again.
//
// While the newest version is verified nowhere although it should be, no
// further one is made before half of its remaining life has passed: a target
// that cannot install would otherwise consume a leaf per cycle of retries.
// Windows hold back ordinary renewals, freezes also what follows from a change
// of the certificate; neither a first leaf nor the replacement of a revoked one or
// of one that its CA recalls.
// The guard holds back what follows from a change when that is too much at once.
func HolderDue(f HolderFacts, now time.Time) Decision {
	switch {
	case f.Unmanaged:
		return Decision{}
	case f.Paused:
		return Decision{Wait: WaitPaused}
	case f.VersionRevision == 0:
		return Decision{Due: true, Reason: DueNoVersion, At: now}
	case f.Revoked:
		return Decision{Due: true, Reason: DueRevoked, At: now}
	case f.Recalled && !f.RenewAt.IsZero():
		return Decision{Due: true, Reason: DueRecalled, At: now}
	case f.VersionRevision < f.Revision:
		holds := f.Holds
		holds.Windows = nil
		d := f.held(DueRevision, holds, now, now)
		if d.Due && f.Guarded {
			return f.guarded(now)
		}
		return d
	}
	rekey := f.rekeyAt()
	if f.RenewAt.IsZero() && rekey.IsZero() {
		return Decision{}
	}
	at := f.RenewAt
	if f.Deployed > 0 && f.Verified == 0 && !at.IsZero() {
		at = maxOf(at, f.IssuedAt.Add(f.NotAfter.Sub(f.IssuedAt)/2))
	}
	if !rekey.IsZero() && (at.IsZero() || rekey.Before(at)) {
		holds := f.Holds
		holds.Windows = nil
		return f.held(DueKey, holds, rekey, now)
	}
	return f.held(DueRenewAt, f.Holds, at, now)
}

// How long members wait for a shared key before there is a new one, and how
// often there may be one for that reason.
const (
	keyPatience = 10 * time.Minute
	rekeyLeast  = time.Hour
)

// rekeyAt is when a new key is made because members wait for this one; zero:
// there is no need. One that nobody has any more is replaced at once.
func (f HolderFacts) rekeyAt() time.Time {
	switch {
	case f.Waiting == 0 || f.GiverOnline:
		return time.Time{}
	case f.Givers == 0:
		return f.IssuedAt
	}
	return maxOf(f.WaitingSince.Add(keyPatience), f.IssuedAt.Add(rekeyLeast))
}

// held is the decision about what is due at a time, unless something holds it.
func (f HolderFacts) held(reason string, holds Holds, at, now time.Time) Decision {
	release, wait := holds.Release(maxOf(at, now), HoldDeadline(f.NotBefore, f.NotAfter))
	d := Decision{Reason: reason, At: release}
	if at.After(now) { // the wait has not begun
		return d
	}
	d.Due, d.Wait = !release.After(now), wait
	if !release.Before(never) {
		d.At = now.Add(recheck)
	}
	return d
}
