package handlers_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/challenge"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
	"github.com/certctl/certctl/handlers/kek"
	"github.com/certctl/certctl/store"
)

// patience is how long these tests wait for what takes a second or two.
const patience = 90 * time.Second

// acmeWorld is a world with an issuer at a Pebble of its own, and a replica that
// answers for tokens.
// testInstallation is what answers to http-01 carry.
const testInstallation = "the-installation"

type acmeWorld struct {
	*world
	pebble  *acmetest.Server
	ca      certctl.Issuer
	secrets sealer
	dns     []string // starts the process of a DNS provider
}

// byDNS proves names below example.org with TXT records.
func byDNS(s *acmetest.Server) []acme.Rule {
	return []acme.Rule{
		{Type: "dns-01", Names: []string{"*.example.org"}, Provider: "rfc2136", Config: map[string]string{
			"server": s.DNS.Address, "zone": "example.org", "tsig_key": "certctl", "tsig_algorithm": "hmac-sha256",
		}},
		{Type: "http-01"},
	}
}

func newACME(t testing.TB, o acmetest.Options, change ...func(*acme.Settings)) *acmeWorld {
	t.Helper()
	w := &acmeWorld{world: newWorld(t), pebble: acmetest.Start(t, o)}
	key, err := kek.Load(kek.Secrets, t.TempDir()+"/kek", true)
	w.must(err)
	w.secrets = sealer{key}
	settings := acme.Settings{
		Directory: w.pebble.Directory, Terms: true, CABundle: w.pebble.CABundle, Private: true,
		Contact: []string{"ops@example.com"}, Rules: byDNS(w.pebble), Servers: []string{w.pebble.DNS.Address},
	}
	for _, c := range change {
		c(&settings)
	}
	encoded, err := json.Marshal(settings)
	w.must(err)
	w.must(acme.Validate(encoded))
	id := certctl.NewID(time.Now())
	secrets, err := json.Marshal(map[string]string{"tsig_secret": w.pebble.DNS.TSIGValue, "eab_hmac": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W", "PDNS_API_KEY": powerDNSKey,
		"acmedns_accounts": `{"shop.example.com": {"fulldomain": "` + acmeDNSName + `", "subdomain": "d420c923-bbd7-4056-ab64-c3ca54c9b3cf", "username": "user", "password": "password"}}`})
	w.must(err)
	sealed, err := w.secrets.Seal("issuer", id, "sealed", secrets)
	w.must(err)
	w.ca, err = w.CreateIssuer(w.ctx, w.admin, certctl.IssuerRequest{
		ID: id, Name: "pebble", Kind: acme.Kind, Settings: encoded, Sealed: sealed, Trust: certctl.TrustPublic,
	})
	w.must(err)
	server := &http.Server{Handler: challenge.Handler(w.Store, func(context.Context) string { return testInstallation }, testLog(t)), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(w.pebble.Challenges) }()
	t.Cleanup(func() { _ = server.Close() })
	return w
}

// mortal is the store of a worker that dies after having recorded so many steps.
// Each order that it works on then ends with its next record: no later one
// arrives, and no outcome.
type mortal struct {
	*store.Store
	left atomic.Int64
}

var errDead = errors.New("the worker is dead")

func (m *mortal) dead() bool { return m.left.Load() <= 0 }

func (m *mortal) SaveAttemptState(ctx context.Context, order certctl.ID, n int, worker, url string, state []byte) error {
	if err := m.Store.SaveAttemptState(ctx, order, n, worker, url, state); err != nil {
		return err
	}
	if m.left.Add(-1) <= 0 {
		return errDead
	}
	return nil
}

func (m *mortal) FinishIssue(ctx context.Context, ends []certctl.AttemptEnd) ([]certctl.FinishResult, error) {
	if m.dead() {
		return nil, errDead
	}
	return m.Store.FinishIssue(ctx, ends)
}

// replica is one worker process: what it remembers ends with it.
type replica struct {
	store   *mortal
	issue   *handlers.Issue
	abandon *handlers.Abandon
	revoke  *handlers.Revoke
	info    *handlers.RenewalInfo
	records *handlers.Records
}

// worker starts a replica that dies after so many steps.
func (w *acmeWorld) worker(name string, steps int64) *replica {
	w.t.Helper()
	r := &replica{store: &mortal{Store: w.Store}}
	r.store.left.Store(steps)
	driver := acme.New(acme.Config{Store: r.store, Secrets: w.secrets, DNSCommand: w.dns})
	open := func(_ context.Context, issuer certctl.Issuer, sealed []byte) (handlers.CA, error) {
		return driver.Open(issuer, sealed)
	}
	log := testLog(w.t)
	r.issue = handlers.NewForeignIssue(r.store, open, name, 32, log)
	r.abandon = handlers.NewAbandon(w.Store, open, log)
	r.revoke = handlers.NewRevoke(w.Store, open, log)
	r.info = handlers.NewRenewalInfo(w.Store, open, log)
	r.records = handlers.NewRecords(w.Store, open, log)
	return r
}

// immortal is more steps than any test takes.
const immortal = 1 << 40

// handle does what a hint says.
func (r *replica) handle(ctx context.Context, hint certctl.Hint) error {
	switch hint.Verb {
	case certctl.HintIssue:
		return r.issue.Handle(ctx, hint)
	case certctl.HintAbandon:
		return r.abandon.Handle(ctx, hint)
	case certctl.HintRevoke:
		return r.revoke.Handle(ctx, hint)
	case certctl.HintRenewalInfo:
		return r.info.Handle(ctx, hint)
	}
	return nil
}

// orderFor submits a certificate of the ACME issuer with its client's request.
func (w *acmeWorld) orderFor(name string, dns ...string) (certctl.Certificate, certctl.ID) {
	w.t.Helper()
	c := w.orderAt("pebble", name, dns...)
	return c, w.order(c).ID
}

// orderAt is orderFor of another issuer.
func (w *acmeWorld) orderAt(issuer, name string, dns ...string) certctl.Certificate {
	w.t.Helper()
	key, err := certctl.ECDSAP256.Generate()
	w.must(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: dns}, key)
	w.must(err)
	csr, err := certctl.ParseCSR(der)
	w.must(err)
	made, err := w.SubmitCertificate(w.ctx, w.admin, certctl.CertificateRequest{Name: name, Issuers: []string{issuer}, CSR: csr}, certctl.Idempotency{})
	w.must(err)
	return made.Certificate
}

// hurry makes everything due that waits.
func (w *acmeWorld) hurry() {
	w.t.Helper()
	_, err := w.Pool().Exec(w.ctx, `
		update due set due_at = now() from (
			select kind, id from due where verb = any('{issue,abandon,revoke}') for update skip locked) all_of_them
		where due.kind = all_of_them.kind and due.id = all_of_them.id`)
	w.must(err)
}

// work is what a scheduler and a worker do in a moment: claim what is due, and do it.
func (w *acmeWorld) work(r *replica) {
	w.t.Helper()
	hints, err := w.ClaimDue(w.ctx, 100, time.Minute)
	w.must(err)
	for _, hint := range hints {
		if err := r.handle(w.ctx, hint); err != nil && !errors.Is(err, errDead) {
			w.t.Errorf("%s: %v", hint.Verb, err)
		}
	}
}

// until works until a condition holds.
func (w *acmeWorld) until(what string, r func() *replica, done func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-deadline.C:
			w.t.Fatalf("%s: not within %s", what, patience)
		case <-ticker.C:
			w.hurry()
			w.work(r())
		}
	}
}

func always(r *replica) func() *replica { return func() *replica { return r } }

func (w *acmeWorld) order(c certctl.Certificate) certctl.Order {
	w.t.Helper()
	return w.orders(c)[0]
}

func (w *acmeWorld) issued(c ...certctl.Certificate) func() bool {
	return func() bool {
		for _, one := range c {
			if o := w.order(one); o.State != certctl.OrderIssued {
				return false
			}
		}
		return true
	}
}

// lapse ends the leases of workers that have died.
func (w *acmeWorld) lapse() {
	w.t.Helper()
	_, err := w.Pool().Exec(w.ctx, `update attempt set lease_until = now() - interval '1 second' where outcome = ''`)
	w.must(err)
	_, err = w.Pool().Exec(w.ctx, `update cert_order set lost_leases = 0 where state = 'processing'`)
	w.must(err)
}

func (w *acmeWorld) count(sql string, args ...any) (n int) {
	w.t.Helper()
	w.must(w.Pool().QueryRow(w.ctx, sql, args...).Scan(&n))
	return n
}

// clean fails the test where something is left over: tokens, records, orders.
func (w *acmeWorld) clean() {
	w.t.Helper()
	if n := w.count(`select count(*) from challenge_token`); n != 0 {
		w.t.Errorf("%d tokens are left", n)
	}
	if n := w.count(`select count(*) from external_order`); n != 0 {
		w.t.Errorf("%d orders are under way", n)
	}
	if left := w.pebble.DNS.TXT(); len(left) != 0 {
		w.t.Errorf("TXT records are left: %v", left)
	}
	w.consistent()
}
