package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/certctl/certctl"
)

// Bounds of a conversation with Google.
const (
	gcpOperation = 2 * time.Minute // of what runs there until it is done
	gcpAnswer    = 1 << 20
	gcpTries     = 3
	gcpLongest   = 30 * time.Second // that is waited for one try
)

// gcpClient is five calls of Google's API, for which its own library would bring
// more code than all that this package has.
type gcpClient struct {
	endpoint string
	client   *http.Client
	login    *gcpLogin
}

// operation is what Google does after it has answered.
type gcpRunning struct {
	Name  string     `json:"name"`
	Done  bool       `json:"done"`
	Error *gcpStatus `json:"error"`
}

type gcpStatus struct {
	Code    int    `json:"code"` // of gRPC
	Message string `json:"message"`
}

// operate asks for a change and waits until it is made. What was not seen to end is
// Unavailable: it may end well.
func (c *gcpClient) operate(ctx context.Context, verb, method, path string, query url.Values, body any) error {
	var running gcpRunning
	if err := c.call(ctx, verb, method, path, query, body, &running); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, gcpOperation)
	defer cancel()
	var lost error // the last answer that was none; it goes on meanwhile
	for wait := settleFirst; !running.Done; wait = min(2*wait, settleLongest) {
		if err := pause(ctx, wait); err != nil {
			return certctl.Wrap(certctl.Unavailable, errors.Join(err, lost), "Google does not end %s", running.Name)
		}
		if err := c.call(ctx, "get", http.MethodGet, running.Name, nil, nil, &running); certctl.ErrorCode(err) == certctl.Unavailable {
			lost = err
		} else if err != nil {
			return certctl.Wrap(certctl.Unavailable, err, "Google does not say how %s ends: %s", running.Name, certctl.ErrorMessage(err))
		}
	}
	if running.Error == nil {
		return nil
	}
	code := certctl.Invalid
	switch running.Error.Code {
	case 5:
		code = certctl.NotFound
	case 6, 9, 10:
		code = certctl.Conflict
	case 7, 16:
		code = certctl.Denied
	case 8:
		code = certctl.RateLimited
	}
	return certctl.Errorf(code, "Google does not %s %s: %s", verb, path, certctl.Clip(running.Error.Message, 300))
}

// call makes a request, and again when Google says that there are too many: then it
// has done nothing.
func (c *gcpClient) call(ctx context.Context, verb, method, path string, query url.Values, body, answer any) error {
	for try := 1; ; try++ {
		err := c.once(ctx, verb, method, path, query, body, answer)
		var ours *certctl.Error
		if !errors.As(err, &ours) || ours.Code != certctl.RateLimited || try == gcpTries || ours.RetryAfter > gcpLongest {
			return err
		}
		if pause(ctx, max(ours.RetryAfter, settleFirst<<try)) != nil {
			return err
		}
	}
}

func (c *gcpClient) once(ctx context.Context, verb, method, path string, query url.Values, body, answer any) error {
	token, err := c.login.token(ctx)
	if err != nil {
		return err
	}
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return certctl.Wrap(certctl.Internal, err, "%s cannot be encoded", path)
		}
		content = bytes.NewReader(encoded)
	}
	address := c.endpoint + "/v1/" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s is no address", address)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.client.Do(request)
	if err != nil {
		return unanswered("Google", err)
	}
	defer response.Body.Close() // nothing is left to be read
	said, err := io.ReadAll(io.LimitReader(response.Body, gcpAnswer))
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "Google's answer breaks off")
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return gcpRefusal(response, verb, path, said)
	}
	if err := json.Unmarshal(said, answer); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "Google's answer cannot be read")
	}
	return nil
}

// unanswered is Unavailable, unless it was the egress that refused.
func unanswered(who string, err error) error {
	var ours *certctl.Error
	if errors.As(err, &ours) {
		return ours
	}
	return certctl.Wrap(certctl.Unavailable, err, "%s does not answer: %s", who, certctl.Clip(err.Error(), 300))
}

// gcpRefusal says what a status means and, where a right is missing, which.
func gcpRefusal(response *http.Response, verb, path string, said []byte) error {
	var answer struct {
		Error struct{ Message, Status string }
	}
	_ = json.Unmarshal(said, &answer) // the status says enough
	err := certctl.Errorf(certctl.Unavailable, "Google does not %s %s: %d %s", verb, path, response.StatusCode, certctl.Clip(answer.Error.Message, 300))
	switch response.StatusCode {
	case http.StatusUnauthorized:
		err.Code = certctl.Denied
		return err.WithRemedy("look at the credentials of the proxy, and at its clock")
	case http.StatusForbidden:
		err.Code = certctl.Denied
		return err.WithRemedy("the proxy's account needs the permission certificatemanager.certs.%s, and the project the API of Certificate Manager", verb)
	case http.StatusNotFound:
		err.Code = certctl.NotFound
	case http.StatusConflict:
		err.Code = certctl.Conflict
	case http.StatusTooManyRequests:
		err.Code = certctl.RateLimited
		err.RetryAfter = retryAfter(response.Header.Get("Retry-After"))
	case http.StatusBadRequest:
		err.Code = certctl.Invalid
		if answer.Error.Status == "FAILED_PRECONDITION" {
			err.Code = certctl.Conflict
		}
	}
	return err
}

// retryAfter reads seconds; dates are not worth it.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.Atoi(header)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
