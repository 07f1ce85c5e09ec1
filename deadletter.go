package certctl

import "time"

// DeadLetter is a message that was delivered too often without an outcome, or
// that nobody here can read. It is shown, and replayed or discarded by a person.
type DeadLetter struct {
	ID      ID // the same for every delivery of one message
	Verb    HintVerb
	Lane    string
	IDs     []ID   // what the hint named; empty when it cannot be read
	Reason  string // safe to show
	Message []byte // the body as it came
	At      time.Time
}
