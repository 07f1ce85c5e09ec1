package rest

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// statuses maps each error code to its HTTP status, once.
var statuses = map[certctl.Code]int{
	certctl.Invalid:     http.StatusBadRequest,
	certctl.NotFound:    http.StatusNotFound,
	certctl.Conflict:    http.StatusConflict,
	certctl.Denied:      http.StatusForbidden,
	certctl.Gone:        http.StatusGone,
	certctl.Unavailable: http.StatusServiceUnavailable,
	certctl.RateLimited: http.StatusTooManyRequests,
	certctl.Internal:    http.StatusInternalServerError,
}

// statusError is an error whose status the code alone does not give.
type statusError struct {
	status int
	cause  *certctl.Error
}

func (e statusError) Error() string { return e.cause.Error() }
func (e statusError) Unwrap() error { return e.cause }

// problemOf describes err as a problem (RFC 9457) that is safe to send.
func problemOf(err error, requestID string) gen.Problem {
	code := certctl.ErrorCode(err)
	status, known := statuses[code]
	if !known {
		status = http.StatusInternalServerError
	}
	var special statusError
	switch {
	case errors.As(err, &special):
		status = special.status
	case errors.Is(err, certctl.ErrIdempotencyReuse):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, certctl.ErrChanged):
		status = http.StatusPreconditionFailed
	}
	problem := gen.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: string(code),
		Detail: certctl.ErrorMessage(err), Instance: requestID,
	}
	var e *certctl.Error
	if errors.As(err, &e) && code != certctl.Internal {
		problem.Remedy = e.Remedy
		for _, field := range e.Fields {
			problem.Errors = append(problem.Errors, gen.FieldError{Field: field.Field, Message: field.Message})
		}
	}
	return problem
}

// writeProblem answers a request with what went wrong.
func (s *Server) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	request := requestOf(r.Context())
	problem := problemOf(err, request.id)
	request.failed(problem.Status, err)
	if problem.Status == http.StatusForbidden {
		s.recordDenied(r, request.actor)
	}
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	if problem.Status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Bearer realm="certctl"`)
	}
	var e *certctl.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	w.WriteHeader(problem.Status)
	_ = json.NewEncoder(w).Encode(problem) // the client is gone if this fails
}
