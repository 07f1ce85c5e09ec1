package certctl

import "time"

// Freeze is a time in which the platform changes nothing by itself: no ordinary
// renewal, no installation that follows one. New certificates, replacements of
// revoked ones and whatever a person overrides go on.
//
// It ends for a certificate when a tenth of its life is left, unless it is hard.
type Freeze struct {
	ID       ID
	Name     string
	Reason   string
	Labels   map[string]string // certificates that carry all of them; none: every certificate
	Hard     bool
	StartsAt time.Time
	EndsAt   time.Time // zero: until somebody ends it
	EndedAt  time.Time // by hand
	Creator  string    // the principal's name
	Created  time.Time
}

// Validate refuses a freeze that cannot be named or ends before it starts.
func (f Freeze) Validate() error {
	var bad FieldErrors
	bad.AddError("/name", CheckObjectName(f.Name))
	bad.AddError("", CheckLabels(f.Labels))
	if !f.EndsAt.IsZero() && !f.EndsAt.After(f.StartsAt) {
		bad.Add("/ends_at", "must be after starts_at")
	}
	if len(f.Reason) > 1000 {
		bad.Add("/reason", "at most 1000 characters")
	}
	return bad.Err()
}

// Covers reports whether the freeze holds a certificate with these labels at a
// time.
func (f Freeze) Covers(labels map[string]string, at time.Time) bool {
	return f.Concerns(labels) && f.EndedAt.IsZero() && !at.Before(f.StartsAt) && (f.EndsAt.IsZero() || at.Before(f.EndsAt))
}

// Concerns reports whether a certificate with these labels is among those that
// the freeze is about.
func (f Freeze) Concerns(labels map[string]string) bool {
	for key, value := range f.Labels {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// Holds is what may keep an ordinary change of one certificate back.
type Holds struct {
	Windows []Window          // in which it may be made; none: always
	Freezes []Freeze          // of the platform
	Labels  map[string]string // of the certificate
}

// never is when a freeze without an end ends.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Release returns the first time, from now on, at which a change may be made,
// and what keeps it back until then (WaitNone when that is now). Windows and
// freezes end at the deadline; hard freezes do not.
func (h Holds) Release(now, deadline time.Time) (time.Time, WaitReason) {
	at, wait := h.release(now)
	if at.After(deadline) {
		at = maxOf(now, deadline)
		for end, held := h.frozen(at, true); held; end, held = h.frozen(at, true) {
			at, wait = end, WaitFreeze
		}
	}
	if !at.After(now) {
		return now, WaitNone
	}
	return at, wait
}

// release is Release without a deadline.
func (h Holds) release(now time.Time) (at time.Time, wait WaitReason) {
	at = now
	for at.Before(never) {
		if end, held := h.frozen(at, false); held {
			at, wait = end, WaitFreeze
			continue
		}
		open := NextOpen(h.Windows, at)
		if open.IsZero() {
			return never, WaitWindow
		}
		if open.Equal(at) {
			return at, wait
		}
		at = open
		if wait == WaitNone {
			wait = WaitWindow
		}
	}
	return at, wait
}

// frozen returns the end of the longest freeze that holds at a time.
func (h Holds) frozen(at time.Time, hard bool) (end time.Time, held bool) {
	if !at.Before(never) {
		return at, false
	}
	for _, f := range h.Freezes {
		if hard && !f.Hard || !f.Covers(h.Labels, at) {
			continue
		}
		held = true
		if f.EndsAt.IsZero() {
			return never, true
		}
		end = maxOf(end, f.EndsAt)
	}
	return end, held
}

func maxOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// HoldDeadline is when holds end for a certificate: a tenth of its life is left.
func HoldDeadline(notBefore, notAfter time.Time) time.Time {
	return notAfter.Add(-notAfter.Sub(notBefore) / 10)
}
