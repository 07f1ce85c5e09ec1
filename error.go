package certctl

import (
	"errors"
	"fmt"
	"time"
)

// Code says what kind of failure an Error is. The set is closed: the edges
// (HTTP, CLI, agent) map each code once.
type Code string

const (
	Invalid     Code = "invalid"      // the request cannot be right, whatever the state
	NotFound    Code = "not_found"    // no such object, or none that the caller may know of
	Conflict    Code = "conflict"     // right in itself, against the present state
	Denied      Code = "denied"       // the caller may not
	Gone        Code = "gone"         // was there and is retired for good
	Unavailable Code = "unavailable"  // a part is not reachable now; try again
	RateLimited Code = "rate_limited" // too much at once; RetryAfter says when
	Internal    Code = "internal"     // our fault; the message says nothing
)

// Error is the one error type that crosses package borders. Message is safe to
// show to the caller: it never holds secrets, SQL or addresses that he did not
// give himself. The wrapped cause is for logs.
type Error struct {
	Code       Code
	Message    string        // what was wrong, and where
	Remedy     string        // what to do, or empty
	Fields     []FieldError  // for Invalid: each wrong field
	RetryAfter time.Duration // for RateLimited and Unavailable; 0 if unknown
	Cause      error
}

// FieldError is one wrong field of a request.
type FieldError struct {
	Field   string `json:"field"` // JSON pointer (RFC 6901), e.g. /dns_names/0
	Message string `json:"message"`
}

// Errorf returns an Error of the code with a message that is safe to show.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an Error with a safe message and the cause for the log.
func Wrap(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Cause: cause}
}

// InvalidField returns an Invalid error about one field.
func InvalidField(field, format string, args ...any) *Error {
	message := fmt.Sprintf(format, args...)
	return &Error{Code: Invalid, Message: field + ": " + message, Fields: []FieldError{{Field: field, Message: message}}}
}

// WithRemedy returns e with the remedy set.
func (e *Error) WithRemedy(format string, args ...any) *Error {
	e.Remedy = fmt.Sprintf(format, args...)
	return e
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// ErrorCode returns the code of the first Error in err's chain, Internal when
// there is none, and "" for nil.
func ErrorCode(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// ErrorMessage returns the safe message of err, or a fixed sentence for errors
// that are not ours.
func ErrorMessage(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Code != Internal {
		return e.Message
	}
	return "an internal error occurred"
}

// Clip shortens text from outside before it is quoted in a message.
func Clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}

// FieldErrors gathers the wrong fields of one request, so that a user sees all
// of them at once.
type FieldErrors []FieldError

// Add records one wrong field.
func (f *FieldErrors) Add(field, format string, args ...any) {
	*f = append(*f, FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
}

// AddError records err's own fields under the given prefix, or err as a whole.
func (f *FieldErrors) AddError(prefix string, err error) {
	if err == nil {
		return
	}
	var e *Error
	if errors.As(err, &e) && len(e.Fields) > 0 {
		for _, field := range e.Fields {
			*f = append(*f, FieldError{Field: prefix + field.Field, Message: field.Message})
		}
		return
	}
	*f = append(*f, FieldError{Field: prefix, Message: ErrorMessage(err)})
}

// Err returns nil, or one Invalid error that names the first field and carries
// all of them.
func (f FieldErrors) Err() error {
	if len(f) == 0 {
		return nil
	}
	e := Errorf(Invalid, "%s: %s", f[0].Field, f[0].Message)
	if len(f) > 1 {
		e.Message = fmt.Sprintf("%s (and %d more)", e.Message, len(f)-1)
	}
	e.Fields = f
	return e
}

// ErrIdempotencyReuse is the cause of the error that a repeated idempotency key
// with another request gets.
var ErrIdempotencyReuse = errors.New("the idempotency key was used for another request")

// ErrChanged is the cause of the error that a change gets which was made for an
// older state of its object.
var ErrChanged = errors.New("the object has changed since it was read")
