package broker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/broker"
)

// patience bounds every wait: what happens at all happens in milliseconds.
const patience = 10 * time.Second

// site is a broker on a TLS listener with both streams, and the identity to log
// in to it as anybody.
type site struct {
	identity *bus.Identity
	facts    bus.Facts
	broker   *broker.Broker
	roots    *x509.CertPool
	root     *nats.Conn // may do everything in the platform's account
	js       jetstream.JetStream
	rootKey  nkeys.KeyPair // signs root
}

func newSite(t *testing.T) *site {
	t.Helper()
	identity, err := bus.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{identity: identity, facts: bus.Facts{Version: time.Now().UnixMicro()}}
	operator, err := bus.OperatorJWT(identity)
	if err != nil {
		t.Fatal(err)
	}
	certificate, roots := selfSigned(t)
	s.roots = roots
	s.broker, err = broker.Start(t.Context(), broker.Config{
		Dir: filepath.Join(t.TempDir(), "bus"), Name: "certctl-test", Operator: operator, Accounts: s.accountsWithRoot(t),
		Listen: "127.0.0.1:0", Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil },
		Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.broker.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	s.root = s.connectRoot(t)
	s.makeStreams(t)
	return s
}

// accountsWithRoot derives the documents, and gives the platform's account one
// more signing key, without a scope: the tests' own, for what no role may do.
func (s *site) accountsWithRoot(t *testing.T) []bus.AccountJWT {
	t.Helper()
	documents, err := bus.AccountJWTs(s.identity, s.facts)
	if err != nil {
		t.Fatal(err)
	}
	s.rootKey, err = nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	public, err := s.rootKey.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for i, document := range documents {
		if document.Name != bus.AccountPlatform {
			continue
		}
		claims, err := jwt.DecodeAccountClaims(document.JWT)
		if err != nil {
			t.Fatal(err)
		}
		claims.SigningKeys.Add(public)
		if documents[i].JWT, err = claims.Encode(s.pair(t, "operator-signing")); err != nil {
			t.Fatal(err)
		}
	}
	return documents
}

// pair returns one of the identity's key pairs: a test that signs what the
// package would not must reach into it.
func (s *site) pair(t *testing.T, name string) nkeys.KeyPair {
	t.Helper()
	data, err := s.identity.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Seeds map[string]string `json:"seeds"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed([]byte(file.Seeds[name]))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return pair
}

// rootLogin makes credentials for everything in the platform's account.
func (s *site) rootLogin(t *testing.T) (string, nkeys.KeyPair) {
	t.Helper()
	pair, public := newUser(t)
	claims := jwt.NewUserClaims(public)
	claims.IssuerAccount = s.identity.Account(bus.AccountPlatform)
	claims.Permissions.Pub.Allow.Add(">")
	claims.Permissions.Sub.Allow.Add(">")
	token, err := claims.Encode(s.rootKey)
	if err != nil {
		t.Fatal(err)
	}
	return token, pair
}

func (s *site) connectRoot(t *testing.T) *nats.Conn {
	t.Helper()
	token, pair := s.rootLogin(t)
	nc, err := nats.Connect("", nats.InProcessServer(s.broker), loginOption(token, pair))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if s.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return nc
}

// makeStreams declares the streams without their refusal of deletes and purges:
// what protects them here is the accounts alone.
func (s *site) makeStreams(t *testing.T) {
	t.Helper()
	for _, config := range []jetstream.StreamConfig{
		{Name: bus.StreamIntent, Subjects: []string{"certctl.v1.intent.>"}, Storage: jetstream.MemoryStorage},
		{Name: bus.StreamEvent, Subjects: []string{"certctl.v1.event.>"}, Storage: jetstream.FileStorage},
	} {
		if _, err := s.js.CreateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
}

// client is a connection of somebody who may not do everything: what the broker
// refuses arrives in violations.
type client struct {
	*nats.Conn
	id         certctl.ID
	violations chan error
	closed     chan struct{}
}

// connect logs in over TLS. Where this machine is so busy that the broker has not
// seen the hello in time and begins in plain words, it tries again: that is no
// answer to who we are.
func (s *site) connect(token string, pair nkeys.KeyPair, inbox string) (*client, error) {
	for {
		c, err := s.connectOnce(token, pair, inbox)
		if err == nil || !strings.Contains(err.Error(), "first record does not look like a TLS handshake") {
			return c, err
		}
	}
}

func (s *site) connectOnce(token string, pair nkeys.KeyPair, inbox string) (*client, error) {
	c := &client{violations: make(chan error, 64), closed: make(chan struct{})}
	var err error
	c.Conn, err = nats.Connect(s.broker.URL(), loginOption(token, pair),
		nats.Secure(s.tls()), nats.TLSHandshakeFirst(),
		nats.CustomInboxPrefix(inbox), nats.NoReconnect(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.violations <- err }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }))
	return c, err
}

func (s *site) tls() *tls.Config {
	return &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS13}
}

func loginOption(token string, pair nkeys.KeyPair) nats.Option {
	return nats.UserJWT(func() (string, error) { return token, nil }, pair.Sign)
}

func newUser(t *testing.T) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// agent connects a new agent.
func (s *site) agent(t *testing.T) *client {
	t.Helper()
	pair, public := newUser(t)
	id := certctl.NewID(time.Now())
	token, err := bus.AgentJWT(s.identity, id, public, time.Now(), bus.UserLife)
	if err != nil {
		t.Fatal(err)
	}
	return mustConnect(t, s, token, pair, bus.InboxPrefix(id.String()), id)
}

// role connects a role of the server.
func (s *site) role(t *testing.T, role bus.Role) *client {
	t.Helper()
	text, err := bus.PlatformCredentials(s.identity, role, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s.connectCredentials(t, text, bus.InboxPrefix(string(role)), certctl.NoID)
}

// reader makes a reader with its consumer of the events and connects it.
func (s *site) reader(t *testing.T) *client {
	t.Helper()
	reader := certctl.Reader{ID: certctl.NewID(time.Now()), CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
	s.facts.Readers = append(s.facts.Readers, reader)
	s.update(t)
	config := jetstream.ConsumerConfig{Durable: bus.ReaderConsumer(reader.ID), AckPolicy: jetstream.AckExplicitPolicy}
	if _, err := s.js.CreateConsumer(t.Context(), bus.StreamEvent, config); err != nil {
		t.Fatal(err)
	}
	text, err := bus.ReaderCredentials(s.identity, reader, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s.connectCredentials(t, text, bus.InboxPrefix(reader.ID.String()), reader.ID)
}

// update derives the accounts of agents and readers anew and applies them; the
// platform's is left as it is, with the tests' own key.
func (s *site) update(t *testing.T) {
	t.Helper()
	s.facts.Version++
	documents, err := bus.AccountJWTs(s.identity, s.facts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.broker.UpdateAccounts(documents[2:]); err != nil {
		t.Fatal(err)
	}
}

func (s *site) connectCredentials(t *testing.T, text, inbox string, id certctl.ID) *client {
	t.Helper()
	token, seed, err := bus.ParseCredentials([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	return mustConnect(t, s, token, pair, inbox, id)
}

func mustConnect(t *testing.T, s *site, token string, pair nkeys.KeyPair, inbox string, id certctl.ID) *client {
	t.Helper()
	c, err := s.connect(token, pair, inbox)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.id = id
	return c
}

// refused asserts that the broker itself refuses what was just sent: it names
// the subject in a permissions violation.
func (c *client) refused(t *testing.T, what, subject string) {
	t.Helper()
	select {
	case err := <-c.violations:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(what+` "`+subject+`"`)) {
			t.Errorf("%s %s: the broker says %v", what, subject, err)
		}
	case <-time.After(patience):
		t.Errorf("%s %s: not refused", what, subject)
	}
}

// ended asserts that the broker ends the connection for the reason.
func (c *client) ended(t *testing.T, reason error) {
	t.Helper()
	if err := receive(t, c.violations, "reason of the end"); !errors.Is(err, reason) {
		t.Errorf("the broker says %v", err)
	}
	receive(t, c.closed, "end of the connection")
}

// quiet asserts that the broker has refused nothing of what was sent.
func (c *client) quiet(t *testing.T) {
	t.Helper()
	flush(t, c.Conn)
	select {
	case err := <-c.violations:
		t.Errorf("the broker says %v", err)
	default:
	}
}

func flush(t *testing.T, nc *nats.Conn) {
	t.Helper()
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
}

// receive waits for one message.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

func selfSigned(t *testing.T) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "bus"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// state is all that an attack could change: what the streams hold, and how far
// their consumers are.
func (s *site) state(t *testing.T) string {
	t.Helper()
	return s.stateBut(t, "")
}

// stateBut is the state without one consumer.
func (s *site) stateBut(t *testing.T, without string) string {
	t.Helper()
	var text strings.Builder
	for _, name := range []string{bus.StreamIntent, bus.StreamEvent} {
		stream, err := s.js.Stream(t.Context(), name)
		if err != nil {
			fmt.Fprintf(&text, "%s: %v\n", name, err)
			continue
		}
		info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s: %d messages, last %d, %v, made %v\n", name, info.State.Msgs, info.State.LastSeq, info.State.Subjects, info.Created)
		for sequence := info.State.FirstSeq; sequence <= info.State.LastSeq && info.State.Msgs > 0; sequence++ {
			message, err := stream.GetMsg(t.Context(), sequence)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&text, "\t%s %q %v\n", message.Subject, message.Data, message.Header)
		}
		for consumer := range stream.ListConsumers(t.Context()).Info() {
			if consumer.Name == without {
				continue
			}
			fmt.Fprintf(&text, "\t%s: delivered %d, floor %d, pending %d, waiting %d\n",
				consumer.Name, consumer.Delivered.Consumer, consumer.AckFloor.Consumer, consumer.NumAckPending, consumer.NumPending)
		}
	}
	return text.String()
}

func timeout(t *testing.T, limit time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), limit)
}
