package handlers_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/ca"
	"github.com/certctl/certctl/handlers/issuer/local"
	"github.com/certctl/certctl/handlers/kek"
	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/storetest"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"
)

func TestMain(m *testing.M) { storetest.Main(m, store.Migrate) }

// sealer is a key-encryption key as the handlers see it.
type sealer struct{ key *kek.Key }

func (s sealer) Seal(table string, row certctl.ID, column string, plaintext []byte) ([]byte, error) {
	return s.key.Seal(kek.Place{Table: table, Row: row, Column: column}, plaintext)
}

func (s sealer) Open(table string, row certctl.ID, column string, sealed []byte) ([]byte, error) {
	return s.key.Open(kek.Place{Table: table, Row: row, Column: column}, sealed)
}

// world is a platform without a bus: the real store, the real signer, and nodes
// whose messages a test carries by hand, or alters on the way.
type world struct {
	*store.Store
	t            testing.TB
	ctx          context.Context
	admin        certctl.Actor
	installation certctl.ID
	sealer       sealer
	pki          sealer
	platform     *handlers.Platform
	authorities  *handlers.Authorities
	issuer       certctl.Issuer
	issue        *handlers.Issue
	reports      *handlers.Reports
	mailboxes    *handlers.Mailboxes
	enrolments   *handlers.Enrolments
	offline      []certctl.ID // agents that no bell reaches
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, ctx: t.Context()}
	var err error
	if w.Store, err = store.Open(w.ctx, storetest.URL(t), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Store.Close)
	_, err = w.Bootstrap(w.ctx, store.BootstrapRequest{PKIURL: "http://pki.example.com", AdminKey: certctl.DigestOf([]byte("key")), AdminPrefix: "cck_"})
	w.must(err)
	principal, err := w.AuthenticateKey(w.ctx, certctl.DigestOf([]byte("key")))
	w.must(err)
	w.admin = certctl.Actor{Principal: principal}
	key, err := kek.Load(kek.CA, t.TempDir()+"/kek", true)
	w.must(err)
	w.sealer = sealer{key}
	derived, err := key.Derive(kek.PKI)
	w.must(err)
	w.pki = sealer{derived}
	w.installation, _, err = w.Installation(w.ctx)
	w.must(err)
	w.platform, err = handlers.OpenPlatform(w.ctx, w.Store, w.sealer)
	w.must(err)
	w.authorities = handlers.NewAuthorities(w.Store, w.sealer, "http://pki.example.com")
	w.authorities.Linter = ca.NewLinter(func(err error) { t.Errorf("lint: %v", err) })
	w.issuer, err = w.CreateIssuer(w.ctx, w.admin, certctl.IssuerRequest{Name: "local", Kind: certctl.IssuerLocal})
	w.must(err)
	_, err = handlers.PublishTrust(w.ctx, w.Store, w.installation, w.platform.Fleet, handlers.TrustFacts{CommandKeys: w.platform.CommandKeys}, time.Now())
	w.must(err)
	w.open()
	return w
}

// open makes the handlers.
func (w *world) open() {
	log := testLog(w.t)
	w.issue = handlers.NewIssue(w.Store, w.openCA, "test", log)
	w.reports = handlers.NewReports(w.installation, w.fleet(), w.Store, log)
	w.mailboxes = handlers.NewMailboxes(w.installation, w.fleet(), w.Store, w.platform.Command,
		func(work certctl.InstallWork) ([]byte, error) {
			return w.sealer.Open("holder", work.Version.Holder, "sealed_key", work.SealedKey)
		}, log)
	w.enrolments = handlers.NewEnrolments(w.installation, w.platform.Fleet, w.Store,
		func(agent certctl.ID, busKey string, now time.Time, life time.Duration) (string, error) {
			return bus.AgentJWT(w.platform.Bus, agent, busKey, now, life)
		}, w.ring, log)
}

// ring is the bus as far as enrolment asks it.
func (w *world) ring(context.Context, []certctl.ID) ([]certctl.ID, error) { return w.offline, nil }

func (w *world) openCA(ctx context.Context, issuer certctl.Issuer, _ []byte) (handlers.CA, error) {
	authority, err := w.authorities.Active(ctx, issuer.ID, ca.Options{})
	if err != nil {
		return nil, err
	}
	return local.New(authority), nil
}

func (w *world) fleet() ed25519.PublicKey {
	public, ok := w.platform.Fleet.Public().(ed25519.PublicKey)
	if !ok {
		w.t.Fatal("the fleet key is not an Ed25519 key")
	}
	return public
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// node is a machine with an agent's keys.
type node struct {
	w       *world
	id      certctl.ID
	name    string
	machine string
	session certctl.ID
	signing ed25519.PrivateKey
	keys    certctl.AgentKeys
	ahead   time.Duration // of its clock
}

// newNode enrols a machine.
func (w *world) newNode(name string) *node {
	w.t.Helper()
	n := w.stranger(name)
	secret := make([]byte, 16)
	_, _ = rand.Read(secret)
	token := hex.EncodeToString(secret)
	_, err := w.CreateJoinToken(w.ctx, w.admin, certctl.JoinToken{Prefix: token[:4], UsesLeft: 1, Approve: true, ExpiresAt: time.Now().Add(time.Hour)},
		certctl.DigestOf([]byte(token)))
	w.must(err)
	enrolled, err := w.enrolments.Enroll(w.ctx, handlers.EnrollRequest{
		Enrolment: certctl.Enrolment{Token: token, Name: name, MachineID: n.machine, Keys: n.keys}, Remote: netip.MustParseAddr("127.0.0.1"),
	})
	w.must(err)
	n.id = enrolled.Agent
	return n
}

// stranger is a machine that is not enrolled.
func (w *world) stranger(name string) *node {
	w.t.Helper()
	n := &node{w: w, name: name, machine: "machine-" + name, session: certctl.NewID(time.Now())}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	n.signing = private
	pair, err := nkeys.CreateUser()
	w.must(err)
	n.keys.Bus, err = pair.PublicKey()
	w.must(err)
	n.keys.Signing = public
	_, n.keys.Sealing, err = certctl.NewSealingKey()
	w.must(err)
	return n
}

// says signs a statement of the node.
func (n *node) says(kind string, object certctl.ID, number int64, body any) certctl.Statement {
	n.w.t.Helper()
	s, err := certctl.NewStatement(n.signing, certctl.Statement{
		Domain: certctl.DomainAgent, Installation: n.w.installation, Agent: n.id, Kind: kind, Object: object, Number: number, Time: time.Now().Add(n.ahead),
	}, body)
	n.w.must(err)
	return s
}

// asks is the node's question for work.
func (n *node) asks(installed ...certctl.Installed) certctl.Statement {
	return n.says(certctl.ReportMailbox, certctl.NoID, 0, certctl.MailboxRequest{
		Session: n.session, MachineID: n.machine, Version: "test", Capabilities: []string{"files"}, Installed: installed,
	})
}

// mailbox asks and returns the node's open commands.
func (n *node) mailbox(installed ...certctl.Installed) certctl.Mailbox {
	n.w.t.Helper()
	reply := n.w.mailboxes.Answer(n.w.ctx, []certctl.Statement{n.asks(installed...)})[0]
	n.w.must(reply.Err)
	for _, c := range reply.Mailbox.Commands {
		public, ok := n.w.platform.Command.Public().(ed25519.PublicKey)
		if !ok || c.Verify(certctl.DomainCommand, public) != nil || c.Agent != n.id || c.Installation != n.w.installation {
			n.w.t.Errorf("a command that this node would not obey: %+v", c)
		}
	}
	return reply.Mailbox
}

// command returns the only open command of a kind, decoded into body.
func (n *node) command(kind string, body any) certctl.Statement {
	n.w.t.Helper()
	var found []certctl.Statement
	for _, c := range n.mailbox().Commands {
		if c.Kind == kind {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		n.w.t.Fatalf("%d commands of the kind %s", len(found), kind)
	}
	n.w.must(found[0].Decode(body))
	return found[0]
}

// reports returns the answer to one report.
func (n *node) reports(s certctl.Statement) certctl.ReportAnswer {
	n.w.t.Helper()
	return n.w.reports.Answer(n.w.ctx, []certctl.Statement{s})[0]
}

// csr makes a key and a CSR for names.
func (n *node) csr(names certctl.Names) ([]byte, crypto.Signer) {
	n.w.t.Helper()
	key, err := certctl.ECDSAP256.Generate()
	n.w.must(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names.DNS}, key)
	n.w.must(err)
	return der, key
}

// answersCSR makes the key that the mailbox asks for and reports its CSR.
func (n *node) answersCSR() certctl.KeyCommand {
	n.w.t.Helper()
	var command certctl.KeyCommand
	n.command(certctl.CommandMakeKey, &command)
	der, _ := n.csr(command.Names)
	answer := n.reports(n.says(certctl.ReportCSR, command.Order, 0, certctl.CSRReport{Order: command.Order, CSR: der}))
	if !answer.Recorded {
		n.w.t.Fatalf("the CSR was not recorded: %+v", answer)
	}
	return command
}

// target makes a target of the node.
func (n *node) target(name string) certctl.Target {
	n.w.t.Helper()
	target, err := n.w.CreateTarget(n.w.ctx, n.w.admin, certctl.TargetRequest{Name: name, Agent: n.name, Kind: "files"})
	n.w.must(err)
	return target
}

// submit asks for a certificate on a target.
func (w *world) submit(name string, targets ...string) certctl.Certificate {
	w.t.Helper()
	r := certctl.CertificateRequest{Name: name, Issuers: []string{"local"}, Names: certctl.Names{DNS: []string{name + ".example.com"}}}
	for _, target := range targets {
		r.Bindings = append(r.Bindings, certctl.BindingRequest{Target: target})
	}
	c, err := w.SubmitCertificate(w.ctx, w.admin, r, certctl.Idempotency{})
	w.must(err)
	return c.Certificate
}

// issues lets the signer work on an order.
func (w *world) issues(order certctl.ID) {
	w.t.Helper()
	w.must(w.issue.Handle(w.ctx, certctl.Hint{Verb: certctl.HintIssue, IDs: []certctl.ID{order}}))
}

func (w *world) versions(c certctl.Certificate) []certctl.Version {
	w.t.Helper()
	page, err := w.ListVersions(w.ctx, w.admin, certctl.VersionFilter{Certificate: c.ID.String()})
	w.must(err)
	return page.Items
}

func (w *world) deployments(c certctl.Certificate) []certctl.Deployment {
	w.t.Helper()
	page, err := w.ListDeployments(w.ctx, w.admin, certctl.DeploymentFilter{Certificate: c.ID.String()})
	w.must(err)
	return page.Items
}

func (w *world) orders(c certctl.Certificate) []certctl.Order {
	w.t.Helper()
	page, err := w.ListOrders(w.ctx, w.admin, certctl.OrderFilter{Certificate: c.ID.String()})
	w.must(err)
	return page.Items
}

// consistent fails the test where a promise is broken in the tables.
func (w *world) consistent() {
	w.t.Helper()
	broken, err := w.CheckIntegrity(w.ctx)
	w.must(err)
	for _, line := range broken {
		w.t.Error(line)
	}
}

// now is the database's clock.
func (w *world) now() time.Time {
	w.t.Helper()
	now, err := w.Store.Now(w.ctx)
	w.must(err)
	return now
}

// testLog shows warnings where a test fails.
func testLog(t testing.TB) zerolog.Logger {
	t.Helper()
	return zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
}
