package certctl

import "time"

// PublicRule is a limit that public CAs keep from a day on.
type PublicRule struct {
	From        time.Time
	MaxValidity Duration
	Source      string
}

// PublicRules are the limits of publicly trusted TLS certificates (CA/Browser
// Forum, Baseline Requirements section 6.3.2 as changed by ballot SC-081v3),
// oldest first.
func PublicRules() []PublicRule {
	const ballot = "CA/Browser Forum ballot SC-081v3"
	day := func(year int, month time.Month, date int) time.Time {
		return time.Date(year, month, date, 0, 0, 0, 0, time.UTC)
	}
	return []PublicRule{
		{day(2020, time.September, 1), Duration(398 * Day), "CA/Browser Forum Baseline Requirements 6.3.2"},
		{day(2026, time.March, 15), Duration(200 * Day), ballot},
		{day(2027, time.March, 15), Duration(100 * Day), ballot},
		{day(2029, time.March, 15), Duration(47 * Day), ballot},
	}
}

// MaxPublicValidity returns the longest life of a publicly trusted leaf that is
// issued at a time.
func MaxPublicValidity(at time.Time) Duration {
	longest := Duration(MaxValidity)
	for _, rule := range PublicRules() {
		if !at.Before(rule.From) {
			longest = rule.MaxValidity
		}
	}
	return longest
}
