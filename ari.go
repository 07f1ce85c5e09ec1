package certctl

import (
	"crypto/x509"
	"encoding/base64"
	"time"
)

// RenewalInfoID is how a CA is asked about a leaf: the identifier of RFC 9773,
// section 4.1, of the issuing key's identifier and the serial number.
func RenewalInfoID(der []byte) (string, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return "", Wrap(Invalid, err, "not an X.509 certificate")
	}
	if len(leaf.AuthorityKeyId) == 0 {
		return "", Wrap(Invalid, nil, "the certificate does not name the key that signed it: its CA cannot be asked when to renew it")
	}
	serial := leaf.SerialNumber.Bytes()
	if len(serial) == 0 || serial[0] >= 0x80 { // as DER has it: a sign bit of its own
		serial = append([]byte{0}, serial...)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode(leaf.AuthorityKeyId) + "." + encode(serial), nil
}

// HintRenewalInfo says that CAs are to be asked when they would have leaves
// renewed; lane: issuer, ids: versions.
const HintRenewalInfo HintVerb = "renewal_info"

// RenewalInfo is what a CA says of a leaf (RFC 9773, section 4.2). The zero value
// is that of a CA that says nothing.
type RenewalInfo struct {
	Start, End     time.Time
	ExplanationURL string        // for people: why the window is where it is
	RetryAfter     time.Duration // when to ask again; 0: it does not say
}

// RenewalInfoJob is a leaf whose CA is to be asked.
type RenewalInfoJob struct {
	Version  Version
	Issuer   Issuer
	Sealed   []byte // the issuer's secrets
	Failures int    // to get an answer, in a row
}

// RenewalInfoEnd is what came of asking.
type RenewalInfoEnd struct {
	Version ID
	Info    RenewalInfo
	Err     error     // there was no answer
	Draw    float64   // random, at least 0 and below 1: for a window that is new
	NextAt  time.Time // when the CA is asked again
}

// How often a CA is asked about a leaf, whatever it says.
const (
	renewalInfoLeast = time.Minute
	renewalInfoUsual = 6 * time.Hour
	renewalInfoMost  = 12 * time.Hour
)

// NextRenewalInfo is when a CA is asked again: as it says, within reason, and a
// little later, so that what was issued together is not asked for together for
// ever. fraction is random, at least 0 and below 1.
func NextRenewalInfo(info RenewalInfo, now time.Time, fraction float64) time.Time {
	wait := info.RetryAfter
	if wait <= 0 {
		wait = renewalInfoUsual
	}
	wait = min(max(wait, renewalInfoLeast), renewalInfoMost)
	return now.Add(wait - time.Duration(fraction*float64(wait)/10))
}

// FirstRenewalInfo is when a CA is first asked about a new leaf: within the hour,
// and sooner when its life is short.
func FirstRenewalInfo(notBefore, notAfter, now time.Time, fraction float64) time.Time {
	spread := min(time.Hour, max(notAfter.Sub(notBefore)/100, renewalInfoLeast))
	return now.Add(time.Duration(fraction * float64(spread)))
}

// RenewalAdvice is what is kept of a CA's words about one leaf.
type RenewalAdvice struct {
	Window         RenewalWindow
	ExplanationURL string
	PolicyAt       time.Time // when the policy alone would have it renewed
	RecalledAt     time.Time // when the CA was found to want it replaced at once; zero: it does not
	CheckedAt      time.Time // the last answer
	Failures       int       // since then
	Message        string    // why there was none, or why it does not count
}

// Heard is the advice after an answer about a leaf of that life. The time in a
// window is drawn when the window is first seen, not with every answer: the
// earliest of many draws would count. A window that has been moved, or is first
// seen, when its end has passed is a recall.
func (a RenewalAdvice) Heard(end RenewalInfoEnd, notBefore, notAfter, now time.Time) RenewalAdvice {
	if end.Err != nil {
		a.Failures++
		a.Message = Clip(ErrorMessage(end.Err), 500)
		return a
	}
	a.CheckedAt, a.Failures, a.Message, a.ExplanationURL = now, 0, "", end.Info.ExplanationURL
	window := RenewalWindow{Start: end.Info.Start, End: end.Info.End}
	switch {
	case window == (RenewalWindow{}):
		a.Window, a.RecalledAt = window, time.Time{}
		return a
	case !window.Sane(notBefore, notAfter):
		a.Window, a.RecalledAt = RenewalWindow{}, time.Time{}
		a.Message = "the window that the CA suggests cannot be meant for this leaf, and is ignored"
		return a
	case window.Start.Equal(a.Window.Start) && window.End.Equal(a.Window.End):
		return a
	}
	window.At = window.Draw(end.Draw)
	a.Window = window
	switch {
	case window.End.After(now):
		a.RecalledAt = time.Time{}
	case a.RecalledAt.IsZero():
		a.RecalledAt = now
	}
	return a
}

// RenewAt is when the leaf is renewed; zero: never by itself.
func (a RenewalAdvice) RenewAt(notBefore, notAfter, now time.Time) time.Time {
	switch {
	case a.PolicyAt.IsZero():
		return time.Time{}
	case !a.RecalledAt.IsZero():
		return a.RecalledAt
	}
	return a.Window.RenewAt(a.PolicyAt, notBefore, notAfter, now)
}

// RenewalWindow is when a CA would have a leaf renewed.
type RenewalWindow struct {
	Start time.Time
	End   time.Time
	At    time.Time // drawn once from the window, see Draw
}

// windowSlack is how far outside a leaf's life its window may reach: a CA that
// wants a leaf replaced at once moves the window into the past.
const windowSlack = 365 * Day

// Sane says whether a window can be meant for a leaf of that life. One that is
// not is ignored, and the policy's time stays.
func (w RenewalWindow) Sane(notBefore, notAfter time.Time) bool {
	return w.End.After(w.Start) && !w.Start.Before(notBefore.Add(-windowSlack)) &&
		w.Start.Before(notAfter) && !w.End.After(notAfter.Add(windowSlack))
}

// Draw is a time in the window; fraction is random, at least 0 and below 1.
func (w RenewalWindow) Draw(fraction float64) time.Time {
	return w.Start.Add(time.Duration(fraction * float64(w.End.Sub(w.Start))))
}

// shortLife is below what life a whole day before the end would be too early.
const shortLife = 4 * Day

// RenewAt is when a leaf is renewed for which the CA suggests a window: at the
// time drawn from it, now if that has passed, and always with enough life left
// to try again. A leaf that is never renewed by itself (zero) stays so.
func (w RenewalWindow) RenewAt(policy, notBefore, notAfter, now time.Time) time.Time {
	if policy.IsZero() || !w.Sane(notBefore, notAfter) {
		return policy
	}
	life := notAfter.Sub(notBefore)
	left := life / 6
	if life >= shortLife {
		left = max(left, Day)
	}
	at := w.At
	if latest := notAfter.Add(-left); at.After(latest) {
		at = latest
	}
	return maxOf(at, now)
}
