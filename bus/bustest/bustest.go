// Package bustest runs a broker for tests: the embedded one, with its accounts
// and permissions, JetStream on the disk with every write synced, and a TLS
// listener on the loopback interface. It starts in milliseconds.
package bustest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/broker"
)

// patience is how long a test waits for what takes milliseconds.
const patience = 20 * time.Second

// Server is a broker that a test may stop, wipe and start again. Connections of
// this process stay valid over that: they find the new one.
type Server struct {
	Identity *bus.Identity

	dir         string
	listen      string
	certificate tls.Certificate
	roots       *x509.CertPool

	mu     sync.Mutex // guards broker and facts
	broker *broker.Broker
	facts  bus.Facts
}

// Start runs a broker until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	identity, err := bus.NewIdentity(time.Now())
	check(t, err)
	s := &Server{
		Identity: identity, dir: filepath.Join(t.TempDir(), "bus"), listen: "127.0.0.1:0",
		facts: bus.Facts{Version: time.Now().UnixMicro()},
	}
	s.makeCertificate(t)
	s.Up(t)
	t.Cleanup(func() { s.Down(t) })
	return s
}

// Up starts the broker where it was.
func (s *Server) Up(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	operator, err := bus.OperatorJWT(s.Identity)
	check(t, err)
	accounts, err := bus.AccountJWTs(s.Identity, s.facts)
	check(t, err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	s.broker, err = broker.Start(ctx, broker.Config{
		Dir: s.dir, Name: "bustest", Operator: operator, Accounts: accounts, Listen: s.listen, Log: zerolog.Nop(),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &s.certificate, nil },
	})
	check(t, err)
	address, err := url.Parse(s.broker.URL())
	check(t, err)
	s.listen = address.Host // the same again after a restart
}

// Down stops the broker; its connections begin to reconnect.
func (s *Server) Down(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broker == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	check(t, s.broker.Shutdown(ctx))
	s.broker = nil
}

// Wipe removes all that the stopped broker has kept.
func (s *Server) Wipe(t testing.TB) {
	t.Helper()
	check(t, os.RemoveAll(s.dir))
}

// Update gives the broker account documents of newer facts.
func (s *Server) Update(t testing.TB, facts bus.Facts) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	accounts, err := bus.AccountJWTs(s.Identity, facts)
	check(t, err)
	_, err = s.broker.UpdateAccounts(accounts)
	check(t, err)
	s.facts = facts
}

// InProcessConn connects to the broker that runs now.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broker == nil {
		return nil, net.ErrClosed
	}
	return s.broker.InProcessConn()
}

// URL returns where agents and readers connect.
func (s *Server) URL() string { return "tls://" + s.listen }

// TLS returns a client's configuration that trusts the broker.
func (s *Server) TLS() *tls.Config {
	return &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS13}
}

// Options returns how a process with a role connects.
func (s *Server) Options(t testing.TB, role bus.Role) bus.Options {
	t.Helper()
	text, err := bus.PlatformCredentials(s.Identity, role, time.Now())
	check(t, err)
	token, seed, err := bus.ParseCredentials([]byte(text))
	check(t, err)
	return bus.Options{
		InProcess: s, Name: string(role), InboxPrefix: bus.InboxPrefix(string(role)), Log: zerolog.Nop(),
		JWT:  func() (string, error) { return token, nil },
		Sign: func(nonce []byte) ([]byte, error) { return bus.SignNonce(seed, nonce) },
	}
}

// Connect returns a connection of a role that stands; it ends with the test.
func (s *Server) Connect(t testing.TB, role bus.Role) *bus.Conn {
	t.Helper()
	conn, err := bus.Connect(t.Context(), s.Options(t, role))
	check(t, err)
	t.Cleanup(conn.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	check(t, conn.Wait(ctx))
	return conn
}

// Supervise runs a supervisor on a connection until the test ends, and returns
// when the streams are there.
func Supervise(t testing.TB, conn *bus.Conn, o bus.SupervisorOptions) *bus.Supervisor {
	t.Helper()
	o.Log = zerolog.Nop()
	supervisor := bus.NewSupervisor(conn, o)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- supervisor.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	select {
	case <-supervisor.Ready():
	case err := <-done:
		t.Fatalf("the supervisor ended: %v", err)
	case <-time.After(patience):
		t.Fatal("the streams are not there")
	}
	return supervisor
}

// AgentOptions returns how an agent connects, with a new bus key.
func (s *Server) AgentOptions(t testing.TB, agent certctl.ID) bus.AgentOptions {
	t.Helper()
	seed, public, err := bus.NewUserKey()
	check(t, err)
	token, err := bus.AgentJWT(s.Identity, agent, public, time.Now(), time.Hour)
	check(t, err)
	return bus.AgentOptions{
		URLs: []string{s.URL()}, Agent: agent, TLS: s.TLS(), Log: zerolog.Nop(),
		UserJWT: func() (string, error) { return token, nil },
		Sign:    func(nonce []byte) ([]byte, error) { return bus.SignNonce(seed, nonce) },
	}
}

// Agent returns an agent's connection that stands; it ends with the test. Its
// first bell has been taken.
func (s *Server) Agent(t testing.TB, agent certctl.ID) *bus.AgentConn {
	t.Helper()
	conn, err := bus.DialAgent(t.Context(), s.AgentOptions(t, agent))
	check(t, err)
	t.Cleanup(conn.Close)
	select {
	case <-conn.Bells():
	case <-time.After(patience):
		t.Fatal("the agent does not connect")
	}
	return conn
}

func (s *Server) makeCertificate(t testing.TB) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bustest"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	leaf, err := x509.ParseCertificate(der)
	check(t, err)
	s.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(leaf)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
