package certctl

import (
	"slices"
	"time"
)

// ValidationRecord is a TXT record that somebody publishes once, and by which an
// account at a CA proves a name for as long as it stands (dns-persist-01, a draft).
// certctl says what to publish and watches it; it never writes it.
type ValidationRecord struct {
	ID          ID
	Certificate ID
	Issuer      Ref
	Name        string // without *.
	Record      string // where it stands, CNAMEs not followed
	Value       string // what to publish
	Terms       RecordTerms
	RecordFinding
	CheckedAt time.Time // the last time that its servers have answered
	Failures  int       // to ask them, since then
	Told      Duration  // the shortest alert before Until that people were told; 0: none
}

// RecordTerms are what a published record must say, of which Value is one way.
type RecordTerms struct {
	Issuers  []string `json:"issuers"`  // names of the CA
	Accounts []string `json:"accounts"` // what the CA calls the account
	Wildcard bool     `json:"wildcard,omitempty"`
}

// RecordState is what was found where a validation record should stand.
type RecordState string

const (
	RecordPublished RecordState = "published"
	RecordMissing   RecordState = "missing" // some server shows none of this CA's
	RecordWrong     RecordState = "wrong"   // there is one that does not prove the name
	RecordEnded     RecordState = "ended"   // its persistUntil has passed
	// RecordUnreachable is that of one whose servers have not answered for a while, or
	// never: its zone may have lapsed.
	RecordUnreachable RecordState = "unreachable"
	// RecordUnneeded is that of one which proves nothing any more: it is forgotten.
	RecordUnneeded RecordState = "unneeded"
)

// RecordFinding is what was found.
type RecordFinding struct {
	State   RecordState
	Until   time.Time // of a published or ended one, by its persistUntil; zero: without end
	Message string    // in words
}

// RecordCheck is what came of looking at a record.
type RecordCheck struct {
	Record  ID
	Value   string // that was to be published then
	Finding RecordFinding
	Err     error // it could not be looked at: what was found before stays at first, see RecordFailures
	NextAt  time.Time
}

// RecordFailures is how many looks in a row must fail until a record counts as
// unreachable: servers that are restarted are no news.
const RecordFailures = 5

// RecordJob is a record to look at.
type RecordJob struct {
	Record ValidationRecord
	Issuer Issuer
	Sealed []byte // the issuer's secrets
}

// recordAlerts are how long before the end of a published record people are told.
var recordAlerts = []Duration{Duration(30 * Day), Duration(14 * Day), Duration(7 * Day), Duration(Day)}

// How often records are looked at, and how soon those that are not as they should be.
const (
	recordUsual = 6 * time.Hour
	recordWrong = time.Hour
	recordLeast = time.Minute
)

// Passed returns the shortest of the alerts that a record has passed; 0 for none.
func (f RecordFinding) Passed(now time.Time) Duration {
	if f.State != RecordPublished || f.Until.IsZero() {
		return 0
	}
	passed, _ := ExpiryAlertsPassed(recordAlerts, f.Until, now)
	if len(passed) == 0 {
		return 0
	}
	return slices.Min(passed)
}

// NextRecordCheck is when a record is looked at again: now and then, and when the
// next alert is due. fraction is random, at least 0 and below 1.
func NextRecordCheck(f RecordFinding, now time.Time, fraction float64) time.Time {
	wait := recordUsual
	if f.State != RecordPublished {
		wait = recordWrong
	}
	next := now.Add(wait - time.Duration(fraction*float64(wait)/10))
	if f.State == RecordPublished && !f.Until.IsZero() {
		_, alert := ExpiryAlertsPassed(recordAlerts, f.Until, now)
		for _, at := range []time.Time{alert, f.Until} {
			if at.After(now) && at.Before(next) {
				next = at
			}
		}
	}
	if least := now.Add(recordLeast); next.Before(least) {
		return least
	}
	return next
}

// HintRecords says that validation records are to be looked at; no lane.
const HintRecords HintVerb = "records"

// WaitRecord is why an order waits until somebody has published a validation record.
const WaitRecord WaitReason = "record"

// Events of validation records.
const (
	EventRecordMissing  EventName = "validation_record_missing" // or wrong, ended, unreachable
	EventRecordSettled  EventName = "validation_record_settled" // published after that, with a later end, or not needed any more
	EventRecordExpiring EventName = "validation_record_expiring"
)
