package acme

import (
	"bytes"
	"context"
	"crypto"
	"io"
	"net/http"
	"time"

	"github.com/certctl/certctl"
	"github.com/go-acme/lego/v4/acme/api"
)

const (
	// userAgent is what CAs know us by, before lego's own.
	userAgent = "certctl"

	// maxBody bounds an answer. Orders with a hundred names have some 20 KB.
	maxBody = 1 << 20

	// directoryFresh is how long a directory is used without asking again.
	directoryFresh = time.Hour
)

// session is one conversation with a CA's server, of one goroutine.
type session struct {
	*api.Core
	transport *transport
}

// transport gives lego's requests what lego does not: a context, the policy about
// hosts, a bound for answers; and remembers what lego does not tell.
type transport struct {
	ctx       context.Context //nolint:containedctx // of the requests that are made with it
	base      http.RoundTripper
	settings  Settings
	directory *directoryCache

	status     int    // of the last answer; 0: there was none
	retryAfter string // its header
	body       []byte // of that
	listed     []byte // the directory
	err        error  // of the last request, which lego's signer does not wrap
}

// dial begins a conversation. kid is the account's URL, or empty for one that is
// to be registered.
func (c *CA) dial(ctx context.Context, kid string, key crypto.Signer) (*session, error) {
	t := &transport{ctx: ctx, base: c.client.Transport, settings: c.settings, directory: c.directory}
	core, err := api.New(&http.Client{Transport: t, Timeout: c.client.Timeout, CheckRedirect: c.client.CheckRedirect}, userAgent, c.settings.Directory, kid, key)
	if err != nil {
		return nil, t.failed(err, "the directory %s cannot be read", c.settings.Directory)
	}
	return &session{Core: core, transport: t}, nil
}

// meta is what lego does not read of the CA's directory.
func (s *session) meta() directoryMeta { return persistMeta(s.transport.listed) }

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.status, t.retryAfter = 0, ""
	var response *http.Response
	response, t.err = t.roundTrip(r)
	return response, t.err
}

func (t *transport) roundTrip(r *http.Request) (*http.Response, error) {
	if !t.settings.allowed(r.URL.Host) {
		return nil, &certctl.IssueError{
			Kind: certctl.FailMisconfigured, Code: "acme_foreign_host",
			Message: "the CA's server sends us to " + certctl.Clip(r.URL.Host, 100) + ", which is not its own host: if that is right, add it to allowed_hosts",
		}
	}
	isDirectory := r.Method == http.MethodGet && r.URL.String() == t.settings.Directory
	if isDirectory {
		if body := t.directory.get(); body != nil {
			t.listed = body
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
		}
	}
	response, err := t.base.RoundTrip(r.WithContext(t.ctx))
	if err != nil {
		return nil, err
	}
	t.status, t.retryAfter = response.StatusCode, response.Header.Get("Retry-After")
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	_ = response.Body.Close()
	if err == nil && len(body) > maxBody {
		err = certctl.Errorf(certctl.Unavailable, "the CA's answer has more than %d bytes", maxBody)
	}
	if err != nil {
		return nil, err
	}
	t.body = body
	if isDirectory && response.StatusCode == http.StatusOK {
		t.listed = body
		t.directory.put(body)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// wait is what the last answer's Retry-After says, within reason; 0 without one.
func (t *transport) wait() time.Duration {
	wait, err := api.ParseRetryAfter(t.retryAfter)
	if err != nil {
		return 0
	}
	return min(max(wait, 0), 7*certctl.Day)
}
