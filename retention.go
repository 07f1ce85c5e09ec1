package certctl

import "time"

// RetentionKind is something that grows and is swept once it has served.
type RetentionKind string

// The kinds. What is still a fact that somebody needs is never swept, however
// old: versions with their revocations, events that are not published yet, the
// newest order of a holder, the deployment that says what a binding serves.
const (
	RetainEvents      RetentionKind = "events"           // dropped by whole months
	RetainOrders      RetentionKind = "orders"           // finished ones, with their attempts
	RetainDeployments RetentionKind = "deployments"      // superseded ones
	RetainDeadLetters RetentionKind = "dead_letters"     // replayed or discarded ones
	RetainIdempotency RetentionKind = "idempotency_keys" // counted from the first request
	RetainNonces      RetentionKind = "nonces"           // counted from their end
	RetainJoinTokens  RetentionKind = "join_tokens"      // used up, revoked or expired ones
	RetainTrials      RetentionKind = "tests"            // of certificates, once they have ended
)

// SweptKinds are those that are swept row by row, in this order.
var SweptKinds = []RetentionKind{
	RetainOrders, RetainDeployments, RetainDeadLetters, RetainIdempotency, RetainNonces, RetainJoinTokens,
	RetainNotifications, RetainTrials,
}

// Keep is how long something is kept after it has served. Zero stands for the
// kind's default.
type Keep time.Duration

// KeepForever keeps everything; its text is "forever".
const KeepForever Keep = -1

const keepForever = "forever"

// UnmarshalText reads a Duration's text or "forever".
func (k *Keep) UnmarshalText(text []byte) error {
	if string(text) == keepForever {
		*k = KeepForever
		return nil
	}
	parsed, err := ParseDuration(string(text))
	if err != nil {
		return Errorf(Invalid, "%q is neither a duration such as 90d nor forever", Clip(string(text), 40))
	}
	*k = Keep(parsed)
	return nil
}

// MarshalText returns the text form.
func (k Keep) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// String returns the text that UnmarshalText reads.
func (k Keep) String() string {
	if k == KeepForever {
		return keepForever
	}
	return Duration(k).String()
}

// Retention says how long each kind is kept.
type Retention map[RetentionKind]Keep

// retentionBounds are each kind's default and the least that is allowed: a
// shorter time would take away what a client, an agent or an operator who comes
// back after a weekend still asks for.
var retentionBounds = map[RetentionKind]struct{ usual, least Keep }{
	RetainEvents:      {Keep(400 * Day), Keep(30 * Day)},
	RetainOrders:      {Keep(90 * Day), Keep(7 * Day)},
	RetainDeployments: {Keep(90 * Day), Keep(7 * Day)},
	RetainDeadLetters: {Keep(90 * Day), Keep(Day)},
	RetainIdempotency: {Keep(7 * Day), Keep(time.Hour)},
	RetainNonces:      {Keep(time.Hour), Keep(time.Minute)},
	RetainJoinTokens:  {Keep(30 * Day), Keep(Day)},

	RetainNotifications: {Keep(90 * Day), Keep(Day)},
	RetainTrials:        {Keep(90 * Day), Keep(Day)},
}

// Complete returns the retention with defaults in place of what is absent or
// zero, and refuses what is too short.
func (r Retention) Complete() (Retention, error) {
	full := make(Retention, len(retentionBounds))
	for kind, bounds := range retentionBounds {
		keep := r[kind]
		switch {
		case keep == 0:
			keep = bounds.usual
		case keep != KeepForever && keep < bounds.least:
			return nil, InvalidField("keep_"+string(kind), "%s is too short: at least %s", keep, bounds.least)
		}
		full[kind] = keep
	}
	return full, nil
}

// Before returns the moment before which a kind may be swept; false for never.
func (r Retention) Before(kind RetentionKind, now time.Time) (time.Time, bool) {
	keep, known := r[kind]
	if !known || keep <= 0 {
		return time.Time{}, false
	}
	return now.Add(-time.Duration(keep)), true
}

// Swept is what one batch of a sweep has done.
type Swept struct {
	Rows int
	Next ID   // where the next batch goes on
	More bool // there may be more from there on
}
