package bus

import (
	"errors"
	"time"

	"github.com/certctl/certctl"
)

// MaxRetry is the longest that a hint waits on the bus before it comes again:
// what must wait longer has a due_at in the database.
const MaxRetry = 5 * time.Second

// retryError and discardError are outcomes of a handler; see Retry and Discard.
type (
	retryError   struct{ after time.Duration }
	discardError struct{ reason string }
)

func (e *retryError) Error() string   { return "try again in " + e.after.String() }
func (e *discardError) Error() string { return "discarded: " + e.reason }

// Retry is the outcome of a handler that wants the same hint again soon, after at
// most MaxRetry. After a few times the hint is dropped: the dispatcher gives it
// again when the row is due.
func Retry(after time.Duration) error { return &retryError{after: after} }

// Discard is the outcome of a handler for a hint that is of no use to anybody.
func Discard(reason string) error { return &discardError{reason: reason} }

// retryAfter returns how soon a hint with this outcome should come again.
func retryAfter(err error) time.Duration {
	after := time.Second
	var retry *retryError
	if errors.As(err, &retry) {
		after = retry.after
	} else if e, ok := asError(err); ok && e.RetryAfter > 0 {
		after = e.RetryAfter
	}
	return min(max(after, 0), MaxRetry)
}

func asError(err error) (*certctl.Error, bool) {
	var e *certctl.Error
	return e, errors.As(err, &e)
}
