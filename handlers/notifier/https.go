package notifier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// requestTime bounds one conversation.
const requestTime = 30 * time.Second

// maxAnswer is how much of an answer is read, in bytes.
const maxAnswer = 4 << 10

// post sends JSON. What comes back as an error tells nothing of the URL, which may
// be the secret: the channel's refusal of this very message is Invalid, too much at
// once RateLimited with the time that it asks for, all else Unavailable.
func (c connection) post(ctx context.Context, to string, header http.Header, body any) error {
	encoded, ok := body.([]byte)
	if !ok {
		var err error
		if encoded, err = json.Marshal(body); err != nil {
			return certctl.Wrap(certctl.Internal, err, "the message cannot be encoded")
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(encoded))
	if err != nil || request.URL.Scheme != "https" {
		return certctl.Errorf(certctl.Unavailable, "the URL of the channel is not an https URL")
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "certctl")
	defer c.client.CloseIdleConnections()
	response, err := c.client.Do(request)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err // without the URL
		}
		return certctl.Wrap(certctl.Unavailable, err, "%s cannot be reached: %s", c.name, certctl.Clip(err.Error(), 200))
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode/100 == 2 {
		return nil
	}
	said, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer)) // it explains, and need not
	return c.refusal(response, to, string(said))
}

func (c connection) refusal(response *http.Response, to, said string) error {
	code := certctl.Unavailable
	switch response.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		code = certctl.Invalid
	case http.StatusTooManyRequests:
		code = certctl.RateLimited
	}
	said = c.scrub(strings.ReplaceAll(strings.TrimSpace(said), to, "…"))
	e := certctl.Errorf(code, "%s answers with status %d: %s", c.name, response.StatusCode, certctl.Clip(said, 200))
	e.RetryAfter = retryAfter(response.Header.Get("Retry-After"))
	return e
}

// scrub takes the channel's secrets out of what somebody says.
func (c connection) scrub(said string) string {
	for _, secret := range c.secret {
		if len(secret) >= 8 {
			said = strings.ReplaceAll(said, secret, "…")
		}
	}
	return said
}

// retryAfter reads a time in seconds, or a moment (RFC 9110 section 10.2.3).
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1e6 {
		return time.Duration(seconds * float64(time.Second))
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
