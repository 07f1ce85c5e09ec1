package certctl

import (
	"strconv"
	"strings"
	"time"
)

// Window is a time that comes again and again, in which changes may be made: it
// opens when Cron says so and stays open for Duration.
type Window struct {
	Cron     string   `json:"cron"`                // minute hour day-of-month month day-of-week
	Duration Duration `json:"duration"`            // 1m to 31d
	TimeZone string   `json:"time_zone,omitempty"` // IANA name; "" = UTC
}

// Limits of windows.
const (
	MaxWindows        = 20
	maxWindowDuration = 31 * Day
	// windowHorizon is how far ahead a window's next opening is looked for: one on
	// 29 February may be eight years away.
	windowHorizon = 9 * 366
)

// Validate refuses a window that cannot be read or never opens.
func (w Window) Validate() error {
	var bad FieldErrors
	schedule, err := parseCron(w.Cron)
	bad.AddError("/cron", err)
	if time.Duration(w.Duration) < time.Minute || time.Duration(w.Duration) > maxWindowDuration {
		bad.Add("/duration", "must be between 1m and %s", Duration(maxWindowDuration))
	}
	zone, zoneErr := time.LoadLocation(w.TimeZone)
	if zoneErr != nil {
		bad.Add("/time_zone", "%q is not a time zone such as Europe/Berlin", Clip(w.TimeZone, 60))
	}
	if err := bad.Err(); err != nil {
		return err
	}
	if schedule.next(time.Date(2026, 1, 1, 0, 0, 0, 0, zone), zone).IsZero() {
		return InvalidField("/cron", "%q never comes", Clip(w.Cron, 100))
	}
	return nil
}

// NextOpen returns now while one of the windows is open, otherwise when the next
// opens. No windows at all are always open; a zero time means never.
func NextOpen(windows []Window, now time.Time) time.Time {
	if len(windows) == 0 {
		return now
	}
	var next time.Time
	for _, w := range windows {
		schedule, err := parseCron(w.Cron)
		zone, zoneErr := time.LoadLocation(w.TimeZone)
		if err != nil || zoneErr != nil {
			continue // it was validated; a zone may be missing on this machine
		}
		at := schedule.next(now.Add(-time.Duration(w.Duration)), zone)
		if at.IsZero() {
			continue
		}
		if !at.After(now) {
			return now
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next.UTC()
}

// cron is a schedule as sets of bits, one per minute, hour, day, month, weekday.
type cron struct {
	minutes, hours, days, months, weekdays uint64
	anyDay, anyWeekday                     bool
}

var cronFields = []struct {
	name     string
	min, max int
	names    []string
}{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of month", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"day of week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// parseCron reads the five fields: *, numbers, names of months and weekdays,
// ranges, steps and lists of these.
func parseCron(text string) (cron, error) {
	fields := strings.Fields(text)
	if len(fields) != len(cronFields) || len(text) > 200 {
		return cron{}, Errorf(Invalid, "%q is not a schedule of five fields, such as 0 22 * * mon-fri", Clip(text, 60))
	}
	var sets [5]uint64
	for i, field := range fields {
		for _, part := range strings.Split(field, ",") {
			bits, err := cronPart(i, part)
			if err != nil {
				return cron{}, err
			}
			sets[i] |= bits
		}
	}
	if sets[4]&(1<<7) != 0 { // Sunday is 0 and 7
		sets[4] |= 1
	}
	return cron{
		minutes: sets[0], hours: sets[1], days: sets[2], months: sets[3], weekdays: sets[4],
		anyDay: strings.HasPrefix(fields[2], "*"), anyWeekday: strings.HasPrefix(fields[4], "*"),
	}, nil
}

// cronPart reads one of the comma-separated parts of a field.
func cronPart(field int, part string) (uint64, error) {
	f := cronFields[field]
	bad := Errorf(Invalid, "%q is not a %s (%d to %d)", Clip(part, 20), f.name, f.min, f.max)
	span, stepText, stepped := strings.Cut(part, "/")
	step := 1
	if stepped {
		var err error
		if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > f.max {
			return 0, bad
		}
	}
	from, to := f.min, f.max
	if span != "*" {
		first, last, ranged := strings.Cut(span, "-")
		var ok bool
		if from, ok = cronValue(field, first); !ok {
			return 0, bad
		}
		switch {
		case ranged:
			if to, ok = cronValue(field, last); !ok || to < from {
				return 0, bad
			}
		case !stepped:
			to = from
		}
	}
	var bits uint64
	for value := from; value <= to; value += step {
		bits |= 1 << value
	}
	return bits, nil
}

func cronValue(field int, text string) (int, bool) {
	f := cronFields[field]
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.min + i, true
		}
	}
	value, err := strconv.Atoi(text)
	return value, err == nil && value >= f.min && value <= f.max
}

// next returns the first opening after the given time, or zero. A time of day
// that a change of clocks skips opens when the clocks have gone on.
func (c cron) next(after time.Time, zone *time.Location) time.Time {
	local := after.In(zone)
	for day := range windowHorizon {
		date := time.Date(local.Year(), local.Month(), local.Day()+day, 12, 0, 0, 0, zone)
		if !c.onDay(date) {
			continue
		}
		for hour := range 24 {
			if c.hours&(1<<hour) == 0 {
				continue
			}
			for minute := range 60 {
				at := time.Date(date.Year(), date.Month(), date.Day(), hour, minute, 0, 0, zone)
				if c.minutes&(1<<minute) != 0 && at.After(after) {
					return at
				}
			}
		}
	}
	return time.Time{}
}

// onDay follows the custom that a day of month and a day of week, where both are
// restricted, each suffice.
func (c cron) onDay(date time.Time) bool {
	if c.months&(1<<int(date.Month())) == 0 {
		return false
	}
	day, weekday := c.days&(1<<date.Day()) != 0, c.weekdays&(1<<int(date.Weekday())) != 0
	if !c.anyDay && !c.anyWeekday {
		return day || weekday
	}
	return day && weekday
}
