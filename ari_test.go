package certctl_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// The values are those of RFC 9773, section 4.1.
func TestRenewalInfoID(t *testing.T) {
	t.Parallel()
	issuer, err := hex.DecodeString("69885b6b87464041e1b37b847ba0ae2cde01c8d4")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		issuer []byte
		want   string
	}{
		"of the RFC":        {issuer, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"},
		"without an issuer": {nil, ""},
	} {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(0x87654321), NotBefore: epoch, NotAfter: epoch.Add(certctl.Day), AuthorityKeyId: c.issuer}
		der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := certctl.RenewalInfoID(der); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

func TestRenewalWindowRenewAt(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return epoch.Add(time.Duration(n) * certctl.Day) }
	end, policy, now := day(90), day(60), day(40)
	for name, c := range map[string]struct {
		start, end, policy, want time.Time
	}{
		"the middle":      {day(50), day(52), policy, day(51)},
		"passed":          {day(10), day(12), policy, now},
		"before its life": {day(-3), day(-1), policy, now},
		"too late":        {day(84), day(88), policy, day(75)},
		"no window":       {time.Time{}, time.Time{}, policy, policy},
		"backwards":       {day(52), day(50), policy, policy},
		"far in the past": {day(-800), day(-798), policy, policy},
		"after the end":   {day(91), day(95), policy, policy},
		"without an end":  {day(50), day(5000), policy, policy},
		"never by itself": {day(50), day(52), time.Time{}, time.Time{}},
	} {
		w := certctl.RenewalWindow{Start: c.start, End: c.end}
		w.At = w.Draw(0.5)
		if got := w.RenewAt(c.policy, epoch, end, now); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	for name, c := range map[string]struct{ life, left time.Duration }{
		"five days": {5 * certctl.Day, certctl.Day},
		"two days":  {2 * certctl.Day, 8 * time.Hour},
	} {
		last := epoch.Add(c.life)
		w := certctl.RenewalWindow{Start: last.Add(-time.Hour), End: last, At: last.Add(-time.Minute)}
		if got, want := w.RenewAt(last, epoch, last, epoch), last.Add(-c.left); !got.Equal(want) {
			t.Errorf("with a life of %s: %s, want %s", name, got, want)
		}
	}
}

func TestRenewalAdviceHeard(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return epoch.Add(time.Duration(n) * certctl.Day) }
	said := func(start, end int) certctl.RenewalInfoEnd {
		return certctl.RenewalInfoEnd{Info: certctl.RenewalInfo{Start: day(start), End: day(end)}, Draw: 0.5}
	}
	a := certctl.RenewalAdvice{PolicyAt: day(60)}
	hear := func(end certctl.RenewalInfoEnd, now int) { a = a.Heard(end, epoch, day(90), day(now)) }
	expect := func(what string, renew, recalled time.Time, now int) {
		t.Helper()
		if got := a.RenewAt(epoch, day(90), day(now)); !got.Equal(renew) || !a.RecalledAt.Equal(recalled) {
			t.Errorf("%s: renewed at %s and recalled at %s, want %s and %s", what, got, a.RecalledAt, renew, recalled)
		}
	}
	hear(said(50, 52), 1)
	expect("first", day(51), time.Time{}, 1)
	again := said(50, 52)
	again.Draw = 0
	hear(again, 2)
	expect("the same window", day(51), time.Time{}, 2)
	hear(said(50, 52), 70) // held back for long
	expect("the same window, passed", day(70), time.Time{}, 70)
	hear(certctl.RenewalInfoEnd{Err: certctl.Errorf(certctl.Unavailable, "no answer")}, 71)
	if a.Failures != 1 || a.Message == "" || !a.CheckedAt.Equal(day(70)) {
		t.Errorf("after a failure: %+v", a)
	}
	hear(said(60, 61), 72)
	expect("moved into the past", day(72), day(72), 72)
	hear(said(70, 71), 73)
	expect("moved again", day(72), day(72), 73)
	hear(said(80, 81), 74)
	expect("given up", day(75), time.Time{}, 74)
	hear(said(81, 80), 74)
	expect("backwards", day(60), time.Time{}, 74)
	hear(certctl.RenewalInfoEnd{}, 74)
	expect("nothing", day(60), time.Time{}, 74)
	a = certctl.RenewalAdvice{}
	hear(said(-2, -1), 3)
	expect("never by itself", time.Time{}, day(3), 3)
}

func TestNextRenewalInfo(t *testing.T) {
	t.Parallel()
	for said, want := range map[time.Duration]time.Duration{
		0: 6 * time.Hour, time.Second: time.Minute, 3 * time.Hour: 3 * time.Hour, 90 * certctl.Day: 12 * time.Hour,
	} {
		info := certctl.RenewalInfo{RetryAfter: said}
		if got := certctl.NextRenewalInfo(info, epoch, 0).Sub(epoch); got != want {
			t.Errorf("asked again %s after %s was said", got, said)
		}
		if got := certctl.NextRenewalInfo(info, epoch, 0.9).Sub(epoch); got >= want || got < want*9/10 {
			t.Errorf("spread to %s of %s", got, want)
		}
	}
}
