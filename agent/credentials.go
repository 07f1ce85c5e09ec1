package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/certctl/certctl"
)

// Pauses between tries to renew credentials.
const (
	renewFirst = 5 * time.Second
	renewMost  = 5 * time.Minute
	renewLeast = 100 * time.Millisecond // between any two
)

// Credentials keeps the bus log-in valid: it is renewed over HTTPS with the
// signing key, from the time that the server named, however long ago the last
// one ended.
//
// It is safe for concurrent use.
type Credentials struct {
	path    string
	id      Identity
	keys    nodeKeys
	trust   *Trust
	version string
	now     func() time.Time

	mu      sync.Mutex // guards all below
	current storedCredentials
	lastURL string
	wake    chan struct{} // capacity 1: renew now
	changed chan struct{} // closed and replaced when current changes
}

type storedCredentials struct {
	JWT       string    `json:"jwt"`
	ExpiresAt time.Time `json:"expires_at"`
	RenewAt   time.Time `json:"renew_at"`
}

func openCredentials(dir string, id Identity, keys nodeKeys, trust *Trust, version string, now func() time.Time) (*Credentials, error) {
	c := &Credentials{
		path: filepath.Join(dir, "credentials.json"), id: id, keys: keys, trust: trust, version: version, now: now,
		wake: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	// Credentials can always be had anew: a damaged file is as good as none.
	if err := loadJSON(c.path, &c.current); err != nil {
		c.current = storedCredentials{}
	}
	return c, nil
}

// JWT returns the newest user JWT; Unavailable before the first one.
func (c *Credentials) JWT() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.JWT == "" {
		return "", certctl.Errorf(certctl.Unavailable, "there are no bus credentials yet")
	}
	return c.current.JWT, nil
}

// ExpiresAt returns when the newest JWT ends, zero without one.
func (c *Credentials) ExpiresAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.ExpiresAt
}

// Renew asks for a renewal soon, e.g. since the bus does not let us in.
func (c *Credentials) Renew() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Wait returns once there are credentials that have not ended.
func (c *Credentials) Wait(ctx context.Context) error {
	for {
		c.mu.Lock()
		valid, changed := c.current.JWT != "" && c.now().Before(c.current.ExpiresAt), c.changed
		c.mu.Unlock()
		if valid {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Run renews until ctx ends. It returns early, with a Gone error, only when the
// agent has been retired. Each outcome is given to report; renewed is called
// after each success.
func (c *Credentials) Run(ctx context.Context, report func(error), renewed func()) error {
	failures, renewals := 0, 0
	for {
		pause := c.dueAt().Sub(c.now())
		switch {
		case failures > 0:
			pause = backoff(failures, renewFirst, renewMost)
		case renewals > 0:
			pause = max(pause, renewLeast)
		}
		if !c.pause(ctx, pause, failures) {
			return ctx.Err()
		}
		err := c.renew(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		report(err)
		switch {
		case certctl.ErrorCode(err) == certctl.Gone:
			return err
		case err != nil:
			failures++
		default:
			failures = 0
			renewals++
			renewed()
		}
	}
}

// pause waits and reports whether ctx still lives. Being woken ends only the
// long wait for the next renewal: after a failure the pace is kept.
func (c *Credentials) pause(ctx context.Context, d time.Duration, failures int) bool {
	wake := c.wake
	if failures > 0 {
		wake = nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

// dueAt is when to renew next: some time after the server's renew_at, at random,
// so that a fleet that was enrolled together does not renew together.
func (c *Credentials) dueAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.JWT == "" {
		return c.now()
	}
	spread := c.current.ExpiresAt.Sub(c.current.RenewAt) / 10
	return c.current.RenewAt.Add(time.Duration(rand.Float64() * float64(spread)))
}

// renew gets new credentials from the first API address that has an answer.
func (c *Credentials) renew(ctx context.Context) error {
	err := error(certctl.Errorf(certctl.Unavailable, "the trust document names no API address"))
	for _, base := range c.urls() {
		var fresh certctl.Credentials
		fresh, err = c.fetch(ctx, base)
		if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) && c.learn(ctx, base) {
			fresh, err = c.fetch(ctx, base)
		}
		if err == nil {
			return c.take(base, fresh)
		}
		if code := certctl.ErrorCode(err); code != certctl.Unavailable && code != certctl.NotFound {
			return err // the server's own word, and there is only one server
		}
	}
	return err
}

// learn fetches the trust document of a server whose CA this node does not know:
// it may have changed while the node was away. The connection proves nothing, the
// fleet key's signature everything, and nothing of ours is said on it. It reports
// whether there was a newer document.
func (c *Credentials) learn(ctx context.Context, base string) bool {
	parsed, err := url.Parse(base)
	if err != nil {
		return false
	}
	unverified := apiClient{version: c.version, tls: &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, //nolint:gosec // what comes is signed by the pinned fleet key
	}}
	var document certctl.Statement
	if err := unverified.get(ctx, parsed.JoinPath("/api/v1/trust").String(), &document); err != nil {
		return false
	}
	newer, err := c.trust.Accept(document)
	return newer && err == nil
}

// urls are the addresses to try, the one that answered last first, the one of
// the enrolment last.
func (c *Credentials) urls() []string {
	c.mu.Lock()
	last := c.lastURL
	c.mu.Unlock()
	all := slices.Concat([]string{last}, c.trust.Document().APIURLs, []string{c.id.Server})
	var unique []string
	for _, u := range all {
		if u != "" && !slices.Contains(unique, u) {
			unique = append(unique, u)
		}
	}
	return unique
}

// fetch answers the server's nonce with a signature of the signing key.
func (c *Credentials) fetch(ctx context.Context, base string) (certctl.Credentials, error) {
	var fresh certctl.Credentials
	parsed, err := url.Parse(base)
	if err != nil || parsed.Scheme != "https" {
		return fresh, certctl.Errorf(certctl.Unavailable, "%q is not an https address", certctl.Clip(base, 100))
	}
	type nonce struct {
		Nonce []byte `json:"nonce"`
	}
	endpoint := parsed.JoinPath("/api/v1/agents", c.id.Agent.String(), "credentials")
	client := apiClient{tls: c.trust.TLS(), version: c.version}
	var challenge nonce
	if err := client.call(ctx, endpoint.JoinPath("nonce").String(), struct{}{}, &challenge); err != nil {
		return fresh, err
	}
	statement, err := certctl.NewStatement(c.keys.signer(), certctl.Statement{
		Domain: certctl.DomainCredentials, Installation: c.id.Installation, Agent: c.id.Agent,
		Kind: "credentials", Time: c.now(),
	}, challenge)
	if err != nil {
		return fresh, err
	}
	return fresh, client.call(ctx, endpoint.String(), statement, &fresh)
}

// take keeps new credentials. A trust document that comes along and is not
// believed makes them void: whoever sent it is not our server.
func (c *Credentials) take(base string, fresh certctl.Credentials) error {
	if _, err := c.trust.Accept(fresh.Trust); err != nil {
		return err
	}
	if fresh.JWT == "" || !fresh.ExpiresAt.After(c.now()) {
		return certctl.Errorf(certctl.Unavailable, "the server gave credentials that ended at %s; this node's clock says %s",
			fresh.ExpiresAt.Format(time.RFC3339), c.now().Format(time.RFC3339)).WithRemedy("set the clock of this node")
	}
	stored := storedCredentials{JWT: fresh.JWT, ExpiresAt: fresh.ExpiresAt, RenewAt: fresh.RenewAt}
	if !fresh.RenewAt.After(c.now()) || !fresh.RenewAt.Before(fresh.ExpiresAt) {
		stored.RenewAt = c.now().Add(fresh.ExpiresAt.Sub(c.now()) / 3)
	}
	if err := saveJSON(c.path, stored); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.lastURL = stored, base
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

// backoff is first doubling to most, each spread over its upper half.
func backoff(failures int, first, most time.Duration) time.Duration {
	pause := most
	if shift := failures - 1; shift < 16 {
		pause = min(first<<max(shift, 0), most)
	}
	return pause/2 + rand.N(pause/2+1)
}
