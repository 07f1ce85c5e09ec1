package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/storetest"
)

// world is a store on a database of its own, with a default team, an admin, the
// profile "server", the policy "default" and the issuer "local".
type world struct {
	*store.Store
	t      testing.TB
	ctx    context.Context
	admin  certctl.Actor
	issuer certctl.Issuer

	mu      sync.Mutex
	effects []certctl.Effects
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, ctx: t.Context()}
	s, err := store.Open(w.ctx, storetest.URL(t), w.announce)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	w.Store = s
	w.admin = certctl.Actor{Principal: certctl.Principal{ID: certctl.NewID(time.Now()), Kind: certctl.PrincipalUser, Name: "admin", Roles: []certctl.Role{certctl.RoleAdmin}}}
	w.team(certctl.DefaultTeam)
	if _, err := w.CreateProfile(w.ctx, w.admin, certctl.DefaultProfile()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateRenewalPolicy(w.ctx, w.admin, certctl.DefaultRenewalPolicy()); err != nil {
		t.Fatal(err)
	}
	w.issuer, err = w.CreateIssuer(w.ctx, w.admin, certctl.IssuerRequest{Name: "local", Kind: certctl.IssuerLocal})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) announce(e certctl.Effects) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.effects = append(w.effects, e)
}

// hinted returns the ids that hints of the verb have named since it was last called.
func (w *world) hinted(verb certctl.HintVerb) []certctl.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []certctl.ID
	for _, e := range w.effects {
		for _, hint := range e.Hints {
			if hint.Verb == verb {
				ids = append(ids, hint.IDs...)
			}
		}
	}
	w.effects = nil
	return ids
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.Pool().Exec(w.ctx, sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// count returns the number that a query of one value gives.
func (w *world) count(sql string, args ...any) int {
	w.t.Helper()
	var n int
	if err := w.Pool().QueryRow(w.ctx, sql, args...).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func (w *world) team(name string) {
	w.t.Helper()
	w.exec(`insert into team (id, name) values ($1, $2)`, certctl.NewID(time.Now()), name)
}

// member is an actor of a team with a role.
func (w *world) member(team string, roles ...certctl.Role) certctl.Actor {
	return certctl.Actor{Principal: certctl.Principal{ID: certctl.NewID(time.Now()), Kind: certctl.PrincipalUser, Name: "someone of " + team, Team: team, Roles: roles}}
}

func (w *world) agent(name string) certctl.ID {
	w.t.Helper()
	id := certctl.NewID(time.Now())
	w.exec(`insert into agent (id, team_id, name, state, machine_id, statement)
		select $1, id, $2, 'active', $2, '{}' from team where name = 'default'`, id, name)
	return id
}

// target makes a target on a new agent, both with names derived from name.
func (w *world) target(name string) certctl.Target {
	w.t.Helper()
	w.agent("agent-" + name)
	return w.targetOn(name, "agent-"+name)
}

func (w *world) targetOn(name, agent string) certctl.Target {
	w.t.Helper()
	target, err := w.CreateTarget(w.ctx, w.admin, certctl.TargetRequest{Name: name, Agent: agent, Kind: "files"})
	if err != nil {
		w.t.Fatal(err)
	}
	return target
}

// request asks for a certificate of the local issuer on the targets.
func request(name string, targets ...string) certctl.CertificateRequest {
	r := certctl.CertificateRequest{Name: name, Names: certctl.Names{DNS: []string{name + ".example.com"}}, Issuers: []string{"local"}}
	for _, target := range targets {
		r.Bindings = append(r.Bindings, certctl.BindingRequest{Target: target})
	}
	return r
}

func (w *world) submit(r certctl.CertificateRequest) certctl.Certificate {
	w.t.Helper()
	c, err := w.SubmitCertificate(w.ctx, w.admin, r, certctl.Idempotency{})
	if err != nil {
		w.t.Fatal(err)
	}
	return c.Certificate
}

func (w *world) get(id certctl.ID) certctl.Certificate {
	w.t.Helper()
	c, err := w.GetCertificate(w.ctx, w.admin, id.String())
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// orders returns a certificate's orders in a state, oldest first; "" is any.
func (w *world) orders(c certctl.Certificate, state certctl.OrderState) []certctl.Order {
	w.t.Helper()
	page, err := w.ListOrders(w.ctx, w.admin, certctl.OrderFilter{Certificate: c.ID.String(), State: state})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(page.Items)
	return page.Items
}

func (w *world) deployments(c certctl.Certificate) []certctl.Deployment {
	w.t.Helper()
	page, err := w.ListDeployments(w.ctx, w.admin, certctl.DeploymentFilter{Certificate: c.ID.String()})
	if err != nil {
		w.t.Fatal(err)
	}
	return page.Items
}

func (w *world) holders(c certctl.Certificate) []certctl.HolderVersion {
	w.t.Helper()
	all, err := w.CurrentVersions(w.ctx, w.admin, c.ID.String())
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// csrFor makes a key with a CSR for names.
func csrFor(t testing.TB, names ...string) *certctl.CSR {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := certctl.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// leafFor makes a self-signed leaf that is a third through its 90 days.
func leafFor(t testing.TB, names ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-30 * certctl.Day), NotAfter: time.Now().Add(60 * certctl.Day)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// importing asks to import a leaf; with a sealed key unless targets are none.
func importing(t *testing.T, name string, issuers []string, targets ...string) certctl.ImportRequest {
	t.Helper()
	r := certctl.ImportRequest{CertificateRequest: request(name, targets...), Leaf: leafFor(t, name+".example.com")}
	r.Issuers = issuers
	if len(targets) > 0 {
		r.SealedKey, r.Holder = []byte("sealed"), certctl.NewID(time.Now())
	}
	return r
}

func (w *world) imports(r certctl.ImportRequest) certctl.Certificate {
	w.t.Helper()
	c, err := w.ImportCertificate(w.ctx, w.admin, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// issue ends an order with a leaf, as the signer would, and returns the version.
// Its deployments are verified, as if by their agents.
func (w *world) issue(o certctl.Order) certctl.ID {
	w.t.Helper()
	w.exec(`update cert_order set state = 'ready', wait = '' where id = $1`, o.ID)
	attempts := w.begin("issuing", o.ID)
	if len(attempts) != 1 {
		w.t.Fatalf("order %s in state %s is not ready", o.ID, o.State)
	}
	end := w.success(attempts[0], o.Names.DNS...)
	end.RenewAt = time.Now().Add(-30 * certctl.Day).UTC().Truncate(time.Second)
	version := w.finish(end)[0].Version
	w.exec(`update deployment set state = 'verified', verified_at = now() where version_id = $1`, version)
	w.exec(`delete from due using deployment d where due.kind = 'deployment' and d.id = due.id and d.version_id = $1`, version)
	w.exec(`update certificate set status = 'active', status_reason = '' where id = $1`, o.Certificate)
	return version
}

// consistent fails the test where the tables contradict each other.
func (w *world) consistent() {
	w.t.Helper()
	broken, err := w.CheckIntegrity(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, line := range broken {
		w.t.Error(line)
	}
	if n := w.count(`select count(*) from event e where not exists (select from event_out where id = e.id)`); n != 0 {
		w.t.Errorf("%d events that nobody will publish", n)
	}
	w.asDeclared()
}

// refused fails the test unless err has the code and its text holds the words.
func refused(t *testing.T, err error, code certctl.Code, words ...string) {
	t.Helper()
	if certctl.ErrorCode(err) != code {
		t.Fatalf("error %q (%v), want %q", certctl.ErrorCode(err), err, code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}
