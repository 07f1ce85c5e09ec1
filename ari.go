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
