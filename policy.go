package certctl

import (
	"strconv"
	"time"
)

// RenewalPolicy says when a certificate is renewed, and when people are told.
type RenewalPolicy struct {
	ID          ID         `json:"id,omitzero"`
	Team        string     `json:"team,omitempty"`
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	AutoRenew   bool       `json:"auto_renew"`
	Fraction    float64    `json:"fraction,omitempty"` // of the lifetime that has passed; 0 = by lifetime
	Before      Duration   `json:"before,omitempty"`   // before notAfter; excludes Fraction
	Jitter      float64    `json:"jitter"`             // share of the lifetime over which renewals are spread, 0 to 0.2
	AlertBefore []Duration `json:"alert_before,omitempty"`
	// Drift says what is done when installed files are found changed; "" = repair.
	Drift DriftAction `json:"drift,omitempty"`
	// IssueWindows are when ordinary renewals may be ordered, DeployWindows when
	// what came of them may be installed; none: always. Both end for a certificate
	// when a tenth of its life is left.
	IssueWindows []Window `json:"issue_windows,omitempty"`
	// FailoverAfter is how long an issuer must be down before the certificate's
	// next one takes over; 0: an hour.
	FailoverAfter Duration  `json:"failover_after,omitempty"`
	DeployWindows []Window  `json:"deploy_windows,omitempty"`
	CreatedAt     time.Time `json:"created_at,omitzero"`
	UpdatedAt     time.Time `json:"updated_at,omitzero"`
	// DeployWaves is how a renewed leaf spreads over the targets of a certificate.
	DeployWaves DeployWaves `json:"deploy_waves,omitzero"`
}

// DriftAction is what is done about drift.
type DriftAction string

// What may be done about drift.
const (
	DriftRepair DriftAction = "repair" // installed again
	DriftReport DriftAction = "report" // only told
)

// shortLifetime is the lifetime below which a certificate is renewed at half of
// it instead of two thirds: a third of a few days leaves no time to repair.
const shortLifetime = 10 * Day

// DefaultRenewalPolicy renews by itself at two thirds of the lifetime (half of
// it below ten days), spread over a twentieth.
func DefaultRenewalPolicy() RenewalPolicy {
	return RenewalPolicy{
		Name: "default", Description: "two thirds of the lifetime, half below ten days",
		AutoRenew: true, Jitter: 0.05,
		AlertBefore: []Duration{Duration(30 * Day), Duration(14 * Day), Duration(7 * Day), Duration(Day)},
	}
}

// Validate refuses a policy that would never renew, or renew too late.
func (p RenewalPolicy) Validate() error {
	var bad FieldErrors
	bad.AddError("/name", CheckObjectName(p.Name))
	if p.Fraction != 0 && (p.Fraction < 0.1 || p.Fraction > 0.95) {
		bad.Add("/fraction", "must be between 0.1 and 0.95")
	}
	if p.Fraction != 0 && p.Before != 0 {
		bad.Add("/before", "give a fraction of the lifetime or a time before its end, not both")
	}
	if p.Before != 0 && (time.Duration(p.Before) < time.Minute || time.Duration(p.Before) > MaxValidity) {
		bad.Add("/before", "must be between 1m and %s", Duration(MaxValidity))
	}
	if p.Jitter < 0 || p.Jitter > 0.2 {
		bad.Add("/jitter", "must be between 0 and 0.2")
	}
	for i, alert := range p.AlertBefore {
		if alert <= 0 {
			bad.Add("/alert_before/"+strconv.Itoa(i), "must be positive")
		}
	}
	if p.Drift != "" && p.Drift != DriftRepair && p.Drift != DriftReport {
		bad.Add("/drift", "must be repair or report")
	}
	if time.Duration(p.FailoverAfter) > 365*Day {
		bad.Add("/failover_after", "must be at most 365d")
	}
	checkWindows(&bad, "/issue_windows", p.IssueWindows)
	checkWindows(&bad, "/deploy_windows", p.DeployWindows)
	p.DeployWaves.validate(&bad)
	return bad.Err()
}

func checkWindows(bad *FieldErrors, field string, windows []Window) {
	if len(windows) > MaxWindows {
		bad.Add(field, "at most %d windows", MaxWindows)
		return
	}
	for i, w := range windows {
		bad.AddError(field+"/"+strconv.Itoa(i), w.Validate())
	}
}

// RenewAt returns when a leaf of the given validity is due, and false when the
// policy never renews by itself. spread is a random number in [0,1), drawn once
// per version and stored with the result: drawing again would drift towards
// the start of the window.
//
// A policy that asks for a time before the leaf's first third (a 30-day window
// on a 6-day certificate) is held at half of the lifetime, so that each
// certificate renews once per cycle whatever its lifetime.
func RenewAt(notBefore, notAfter time.Time, p RenewalPolicy, spread float64) (time.Time, bool) {
	if !p.AutoRenew {
		return time.Time{}, false
	}
	lifetime := notAfter.Sub(notBefore)
	fraction := p.Fraction
	switch {
	case p.Before != 0:
		fraction = 1 - float64(p.Before)/float64(lifetime)
		if fraction < 1.0/3 {
			fraction = 0.5
		}
	case fraction == 0 && lifetime < shortLifetime:
		fraction = 0.5
	case fraction == 0:
		fraction = 2.0 / 3
	}
	fraction -= spread * min(p.Jitter, fraction/2)
	return notBefore.Add(time.Duration(fraction * float64(lifetime))).UTC().Truncate(time.Second), true
}

// Backoff returns how long to wait after n tries in a row that failed (n ≥ 1):
// a minute, doubling up to six hours, with up to a tenth taken off by spread in
// [0,1) so that what failed together does not come back together.
func Backoff(n int, spread float64) time.Duration {
	const first, most = time.Minute, 6 * time.Hour
	wait := most
	if n < 10 {
		wait = min(most, first<<max(n-1, 0))
	}
	return wait - time.Duration(spread*float64(wait)/10)
}
