package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// authority is a root of a test's own.
type authority struct {
	key  ed25519.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB, name string) authority {
	t.Helper()
	_, key := newEd25519(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certctl.Day), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, cert}
}

// leaf signs a certificate for the key.
func (c authority) leaf(t testing.TB, public any, names ...string) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, public, c.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (c authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw}))
}

func newEd25519(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

// platform is the other side as the agent sees it: an HTTPS API and a courier,
// which verify what the agent signs as the server does.
type platform struct {
	t            testing.TB
	root         authority
	api          *httptest.Server
	fleet        ed25519.PrivateKey
	command      ed25519.PrivateKey
	installation certctl.ID
	agent        certctl.ID

	swallow   atomic.Int32 // requests that nobody answers
	mu        sync.Mutex   // guards all below
	document  certctl.TrustDocument
	enrolled  []certctl.Enrolment
	apiError  func(http.ResponseWriter, *http.Request) bool // true: answered
	jwtLife   time.Duration
	issued    int
	nonce     []byte
	commands  []certctl.Statement
	stop      string
	asked     []certctl.MailboxRequest
	reported  reportLog
	refuse    func(certctl.Statement) *certctl.ReportAnswer // nil: record it
	contacted chan struct{}                                 // capacity 1: something of the above changed
}

func newPlatform(t testing.TB) *platform {
	t.Helper()
	p := &platform{
		t: t, root: newAuthority(t, "root"), installation: certctl.NewID(time.Now()), agent: certctl.NewID(time.Now()),
		jwtLife: time.Hour, contacted: make(chan struct{}, 1),
	}
	_, p.fleet = newEd25519(t)
	_, p.command = newEd25519(t)
	public, private := newEd25519(t)
	p.api = httptest.NewUnstartedServer(p)
	p.api.Config.ErrorLog = nil
	p.api.TLS = &tls.Config{Certificates: []tls.Certificate{{
		Certificate: [][]byte{p.root.leaf(t, public, "localhost"), p.root.cert.Raw}, PrivateKey: private,
	}}}
	p.api.StartTLS()
	t.Cleanup(p.api.Close)
	p.document = certctl.TrustDocument{
		Version: 1, Installation: p.installation, CABundle: p.root.pem(), APIURLs: []string{p.api.URL}, BusURLs: []string{"tls://bus-1"},
		CommandKeys: []certctl.CommandKey{commandKey(p.command)}, IssuedAt: time.Now(),
	}
	return p
}

func commandKey(key ed25519.PrivateKey) certctl.CommandKey {
	public, _ := key.Public().(ed25519.PublicKey)
	return certctl.CommandKey{Public: public, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
}

func (p *platform) fingerprint() string { return certctl.DigestOf(p.root.cert.Raw).String() }

// trust returns the document under the fleet key. The caller holds mu.
func (p *platform) trust() certctl.Statement {
	return p.sign(p.fleet, certctl.Statement{Domain: certctl.DomainTrust, Kind: "trust", Number: p.document.Version}, p.document)
}

// sign makes a statement of the installation.
func (p *platform) sign(key ed25519.PrivateKey, s certctl.Statement, body any) certctl.Statement {
	p.t.Helper()
	if s.Installation.IsZero() {
		s.Installation = p.installation
	}
	if s.Time.IsZero() {
		s.Time = time.Now()
	}
	signed, err := certctl.NewStatement(key, s, body)
	if err != nil {
		p.t.Error(err)
	}
	return signed
}

// order is a command to the agent, signed as commands are.
func (p *platform) order(kind string, object certctl.ID, number int64, body any) certctl.Statement {
	p.t.Helper()
	return p.sign(p.command, certctl.Statement{
		Domain: certctl.DomainCommand, Agent: p.agent, Kind: kind, Object: object, Number: number,
	}, body)
}

// put replaces what the mailbox holds and rings the bell.
func (p *platform) put(conn *memoryConn, commands ...certctl.Statement) {
	p.mu.Lock()
	p.commands = commands
	p.mu.Unlock()
	conn.ring()
}

// putUntil asks for the same again until condition is true: what is asked while
// its report waits for the answer to it is answered by that one report.
func (p *platform) putUntil(conn *memoryConn, what string, condition func() bool, commands ...certctl.Statement) {
	p.t.Helper()
	p.put(conn, commands...)
	p.await(what, func() bool {
		conn.ring() // each request calls this again
		return condition()
	})
}

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.apiError != nil && p.apiError(w, r) {
		return
	}
	base := "/api/v1/agents/" + p.agent.String() + "/credentials"
	switch r.URL.Path {
	case "/api/v1/agents/enroll":
		var e certctl.Enrolment
		p.read(r, &e)
		p.enrolled = append(p.enrolled, e)
		public, _ := p.fleet.Public().(ed25519.PublicKey)
		p.write(w, certctl.Enrolled{
			Installation: p.installation, Agent: p.agent, Name: e.Name, State: certctl.AgentActive, FleetKey: public, Trust: p.trust(),
		})
	case "/api/v1/trust":
		p.write(w, p.trust())
	case base + "/nonce":
		p.nonce = []byte(rand.Text())
		p.write(w, map[string][]byte{"nonce": p.nonce})
	case base:
		p.credentials(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (p *platform) credentials(w http.ResponseWriter, r *http.Request) {
	var s certctl.Statement
	p.read(r, &s)
	var body map[string][]byte
	if err := s.Verify(certctl.DomainCredentials, p.signing()); err != nil || s.Agent != p.agent || s.Kind != "credentials" {
		p.t.Errorf("credentials asked with %v, %v", s, err)
	}
	if err := s.Decode(&body); err != nil || string(body["nonce"]) != string(p.nonce) {
		p.t.Errorf("another nonce: %v", err)
	}
	p.issued++
	now := time.Now()
	p.write(w, certctl.Credentials{JWT: "jwt", ExpiresAt: now.Add(p.jwtLife), RenewAt: now.Add(p.jwtLife / 3), Trust: p.trust()})
	p.changed()
}

func (p *platform) signing() ed25519.PublicKey {
	if len(p.enrolled) == 0 {
		return nil
	}
	return p.enrolled[len(p.enrolled)-1].Keys.Signing
}

func (p *platform) read(r *http.Request, v any) {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *platform) write(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

// changed wakes await. The caller holds mu.
func (p *platform) changed() {
	select {
	case p.contacted <- struct{}{}:
	default:
	}
}

// await waits until condition, which is called with mu held, is true. It looks now
// and then, too: what the agent makes of an answer nobody signals.
func (p *platform) await(what string, condition func() bool) {
	p.t.Helper()
	deadline := time.After(20 * time.Second)
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		p.mu.Lock()
		ok := condition()
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-p.contacted:
		case <-again.C:
		case <-deadline:
			p.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// reports returns the reports of a kind.
func (p *platform) reports(kind string) []certctl.Statement {
	return slices.DeleteFunc(p.reported.all(), func(s certctl.Statement) bool { return s.Kind != kind })
}

// reportLog is what an agent has reported. It has a lock of its own, so that a
// test may read it inside await and elsewhere.
type reportLog struct {
	mu  sync.Mutex
	log []certctl.Statement // guarded by mu
}

func (r *reportLog) add(s certctl.Statement) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, s)
}

func (r *reportLog) all() []certctl.Statement {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

func (r *reportLog) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
}

// memoryConn carries statements to the platform without a network.
type memoryConn struct {
	p       *platform
	options DialOptions
	bells   chan struct{}
	closed  chan struct{}
	logins  int
}

func (p *platform) dial(conns chan<- *memoryConn) Dial {
	return func(_ context.Context, o DialOptions) (Conn, error) {
		conn := &memoryConn{p: p, options: o, bells: make(chan struct{}, 1), closed: make(chan struct{})}
		conns <- conn
		return conn, nil
	}
}

func (c *memoryConn) ring() {
	select {
	case c.bells <- struct{}{}:
	default:
	}
}

func (c *memoryConn) Bells() <-chan struct{} { return c.bells }
func (c *memoryConn) Close()                 { close(c.closed) }

func (c *memoryConn) Reconnect() error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.logins++
	c.p.changed()
	return nil
}

// check is what the real server does before it reads anything.
func (c *memoryConn) check(s certctl.Statement) {
	if s.Installation != c.p.installation || s.Agent != c.p.agent {
		c.p.t.Errorf("a statement of %s of %s", s.Agent, s.Installation)
	}
	if err := s.Verify(certctl.DomainAgent, c.p.signing()); err != nil {
		c.p.t.Error(err)
	}
}

func (c *memoryConn) Mailbox(ctx context.Context, s certctl.Statement) (certctl.Mailbox, error) {
	if c.p.swallow.Add(-1) >= 0 { // whoever was to answer has died
		<-ctx.Done()
		return certctl.Mailbox{}, ctx.Err()
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.check(s)
	var request certctl.MailboxRequest
	if err := s.Decode(&request); err != nil {
		c.p.t.Error(err)
	}
	c.p.asked = append(c.p.asked, request)
	c.p.changed()
	answer := certctl.Mailbox{Commands: c.p.commands, NextAfter: certctl.Duration(time.Minute), Stop: c.p.stop}
	if request.TrustVersion < c.p.document.Version {
		trust := c.p.trust()
		answer.Trust = &trust
	}
	return answer, nil
}

func (c *memoryConn) Report(ctx context.Context, s certctl.Statement) (certctl.ReportAnswer, error) {
	if c.p.swallow.Add(-1) >= 0 {
		<-ctx.Done()
		return certctl.ReportAnswer{}, ctx.Err()
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.check(s)
	c.p.reported.add(s)
	c.p.changed()
	if c.p.refuse != nil {
		if answer := c.p.refuse(s); answer != nil {
			return *answer, nil
		}
	}
	return certctl.ReportAnswer{Recorded: true}, nil
}

// newCA gives the API a certificate of another CA, which a newer trust document
// names.
func (p *platform) newCA() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.root = newAuthority(p.t, "another root")
	public, key := newEd25519(p.t)
	p.api.TLS.Certificates[0] = tls.Certificate{Certificate: [][]byte{p.root.leaf(p.t, public), p.root.cert.Raw}, PrivateKey: key}
	p.document.Version, p.document.CABundle = 2, p.root.pem()
}
