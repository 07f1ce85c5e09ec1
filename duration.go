package certctl

import (
	"strconv"
	"strings"
	"time"
)

// Day is 24 hours.
const Day = 24 * time.Hour

// Duration is a time.Duration whose text form also knows days: "90d", "36h",
// "1d12h". Certificates live in days, and 2160h is nobody's notion of 90 days.
type Duration time.Duration

// ParseDuration reads the text form: a sum of days, hours, minutes and seconds.
func ParseDuration(s string) (Duration, error) {
	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "", s
	}
	var total time.Duration
	if days != "" {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, Errorf(Invalid, "%q is not a duration such as 90d, 36h or 1d12h", Clip(s, 40))
		}
		total = time.Duration(n) * Day
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 {
			return 0, Errorf(Invalid, "%q is not a duration such as 90d, 36h or 1d12h", Clip(s, 40))
		}
		total += d
	}
	if total == 0 && days == "" && rest == "" {
		return 0, Errorf(Invalid, "a duration is missing")
	}
	return Duration(total), nil
}

// String returns the text form that ParseDuration reads.
func (d Duration) String() string {
	days, rest := time.Duration(d)/Day, time.Duration(d)%Day
	if days == 0 {
		return rest.String()
	}
	text := strconv.FormatInt(int64(days), 10) + "d"
	if rest == 0 {
		return text
	}
	return text + rest.String()
}

// MarshalText returns the text form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the text form.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
