package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// Limits of a call to the API.
const (
	apiTimeout  = 30 * time.Second
	maxAPIReply = 1 << 20
)

// apiClient calls the server's API over HTTPS.
type apiClient struct {
	tls     *tls.Config
	version string // of this program, for the User-Agent header
}

// call sends one request to one URL and decodes the answer. A refusal is a
// certctl.Error with the server's own words.
func (c apiClient) call(ctx context.Context, url string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the request cannot be encoded")
	}
	return c.send(ctx, http.MethodPost, url, bytes.NewReader(body), out)
}

// get asks one URL.
func (c apiClient) get(ctx context.Context, url string, out any) error {
	return c.send(ctx, http.MethodGet, url, http.NoBody, out)
}

func (c apiClient) send(ctx context.Context, method, url string, body io.Reader, out any) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the server's URL is not valid")
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("User-Agent", "certctl-agent/"+c.version)
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: c.tls, DisableKeepAlives: true}
	client := http.Client{Transport: transport, CheckRedirect: noRedirect}
	response, err := client.Do(request)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the server cannot be reached")
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAPIReply))
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the server's answer broke off")
	}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		return problem(response, content)
	}
	if err := json.Unmarshal(content, out); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the server's answer is not what this agent understands")
	}
	return nil
}

// noRedirect keeps requests, which hold tokens, at the host they are for.
func noRedirect(*http.Request, []*http.Request) error {
	return errors.New("the server answered with a redirect: give the URL that it names")
}

// problem reads an RFC 9457 body, or makes the best of one that is not.
func problem(response *http.Response, content []byte) error {
	var body struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Remedy string `json:"remedy"`
	}
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if media != "application/problem+json" || json.Unmarshal(content, &body) != nil {
		body.Title = "the server answered " + response.Status
	}
	e := certctl.Errorf(codeOf(response.StatusCode), "%s", body.Title)
	if body.Detail != "" && body.Detail != body.Title {
		e.Message = strings.TrimPrefix(e.Message+": "+body.Detail, ": ")
	}
	e.Remedy = body.Remedy
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

func codeOf(status int) certctl.Code {
	switch status {
	case http.StatusNotFound:
		return certctl.NotFound
	case http.StatusConflict:
		return certctl.Conflict
	case http.StatusUnauthorized, http.StatusForbidden:
		return certctl.Denied
	case http.StatusGone:
		return certctl.Gone
	case http.StatusTooManyRequests:
		return certctl.RateLimited
	}
	if status >= http.StatusInternalServerError {
		return certctl.Unavailable
	}
	return certctl.Invalid
}
