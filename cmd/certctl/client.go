package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/certctl/certctl"
	"github.com/certctl/certctl/cmd/internal/edition"
)

// session is one run of a command: its settings, and where output goes.
type session struct {
	ctx     context.Context
	globals Globals
	out     io.Writer
	err     io.Writer
	model   *kong.Application
}

// object is what the API answers with.
type object = map[string]any

// apiError is a problem (RFC 9457) that the API answered with.
type apiError struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy"`
	Errors []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"errors"`
}

func (e *apiError) Error() string { return e.Detail }

func (e *apiError) print(w io.Writer) {
	fmt.Fprintf(w, "certctl: %s\n", e.Detail)
	if len(e.Errors) > 1 {
		for _, field := range e.Errors {
			fmt.Fprintf(w, "   %s: %s\n", field.Field, field.Message)
		}
	}
	if e.Remedy != "" {
		fmt.Fprintf(w, "   %s\n", e.Remedy)
	}
}

func (e *apiError) exitCode() int {
	switch e.Status {
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitDenied
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return exitUsage
	}
	return exitError
}

// client talks to one installation.
type client struct {
	base string
	key  string
	http *http.Client
}

// connect resolves the settings: flags and environment first, then the context.
func (s *session) connect() (*client, context.Context, context.CancelFunc, error) {
	settings, err := s.resolve()
	if err != nil {
		return nil, nil, nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if settings.CAFile != "" {
		pem, err := os.ReadFile(settings.CAFile)
		if err != nil {
			return nil, nil, nil, certctl.Wrap(certctl.Invalid, err, "the CA file %s cannot be read", settings.CAFile)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, nil, certctl.Errorf(certctl.Invalid, "the CA file %s holds no PEM certificate", settings.CAFile)
		}
	}
	ctx, cancel := s.ctx, context.CancelFunc(func() {})
	if s.globals.Timeout > 0 {
		ctx, cancel = context.WithTimeout(s.ctx, s.globals.Timeout)
	}
	return &client{
		base: strings.TrimSuffix(settings.Server, "/"), key: settings.Key,
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}},
	}, ctx, cancel, nil
}

// send makes one request and returns the open answer; problems become errors.
func (c *client) send(ctx context.Context, method, path string, query url.Values, body any, header http.Header) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, certctl.Wrap(certctl.Invalid, err, "the request cannot be encoded")
		}
		reader = bytes.NewReader(encoded)
	}
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the URL %s cannot be used", target)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	request.Header.Set("User-Agent", "certctl/"+edition.Version())
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, unreachable(c.base, err)
	}
	if response.StatusCode >= 400 {
		defer response.Body.Close()
		return nil, problem(response)
	}
	return response, nil
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// call makes one request and decodes its JSON answer; a 204 gives nil.
func (c *client) call(ctx context.Context, method, path string, query url.Values, body any) (object, error) {
	response, err := c.send(ctx, method, path, query, body, nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	decoder := json.NewDecoder(io.LimitReader(response.Body, maxAnswer))
	decoder.UseNumber()
	var answer object
	if err := decoder.Decode(&answer); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the answer is not JSON")
	}
	return answer, nil
}

// list follows the pages of a list until limit items are there; 0 means all.
func (c *client) list(ctx context.Context, path string, query url.Values, limit int) ([]any, error) {
	items := []any{}
	for {
		answer, err := c.call(ctx, http.MethodGet, path, query, nil)
		if err != nil {
			return nil, err
		}
		page, _ := answer["items"].([]any)
		items = append(items, page...)
		next, _ := answer["next_cursor"].(string)
		if limit > 0 && len(items) >= limit {
			return items[:limit], nil
		}
		if next == "" {
			return items, nil
		}
		query.Set("cursor", next)
	}
}

func problem(response *http.Response) error {
	failure := &apiError{}
	err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(failure)
	if err != nil || failure.Detail == "" {
		failure.Detail = "the server answered " + response.Status
	}
	failure.Status = response.StatusCode
	return failure
}

// unreachable says why there was no answer, and what usually helps.
func unreachable(base string, err error) error {
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return certctl.Wrap(certctl.Unavailable, err, "no answer from %s in time", base)
	case errors.As(err, &unknown):
		return certctl.Wrap(certctl.Unavailable, err, "%s has a certificate of an unknown CA", base).
			WithRemedy("give its root with --ca-file (CERTCTL_CA_FILE); certctl-server writes it as ca.crt into its data folder")
	}
	return certctl.Wrap(certctl.Unavailable, err, "%s cannot be reached: %s", base, innermost(err)).
		WithRemedy("is it running, and is --server right?")
}

func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// pause waits a moment between two looks, or until the context ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
