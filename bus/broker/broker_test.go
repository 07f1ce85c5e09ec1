package broker_test

import (
	"bytes"
	"crypto/tls"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/broker"
)

func TestStartNeedsWhatItNeeds(t *testing.T) {
	t.Parallel()
	identity, err := bus.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	operator, err := bus.OperatorJWT(identity)
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := bus.AccountJWTs(identity, bus.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := bus.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := bus.AccountJWTs(stranger, bus.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	good := broker.Config{Dir: filepath.Join(t.TempDir(), "bus"), Name: "b", Operator: operator, Accounts: accounts, Log: zerolog.Nop()}
	for name, spoil := range map[string]func(*broker.Config){
		"no folder":             func(c *broker.Config) { c.Dir = "" },
		"no name":               func(c *broker.Config) { c.Name = "" },
		"no operator":           func(c *broker.Config) { c.Operator = "" },
		"another operator":      func(c *broker.Config) { c.Accounts = foreign },
		"plain text":            func(c *broker.Config) { c.Listen = "127.0.0.1:0" },
		"no port":               func(c *broker.Config) { c.Listen = "127.0.0.1" },
		"an impossible port":    func(c *broker.Config) { c.Listen = "127.0.0.1:65536" },
		"a folder in a file":    func(c *broker.Config) { c.Dir = filepath.Join("broker_test.go", "bus") },
		"a user as an account":  func(c *broker.Config) { c.Accounts = []bus.AccountJWT{{Key: "A", JWT: operator}} },
		"the system's is wrong": func(c *broker.Config) { c.Accounts = []bus.AccountJWT{{Key: accounts[1].Key, JWT: accounts[0].JWT}} },
	} {
		config := good
		spoil(&config)
		if b, err := broker.Start(t.Context(), config); err == nil {
			t.Errorf("%s: started", name)
			_ = b.Shutdown(t.Context())
		}
	}
}

func TestAnAddressThatIsTakenIsAnError(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	operator, err := bus.OperatorJWT(s.identity)
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := bus.AccountJWTs(s.identity, s.facts)
	if err != nil {
		t.Fatal(err)
	}
	certificate, _ := selfSigned(t)
	_, err = broker.Start(t.Context(), broker.Config{
		Dir: filepath.Join(t.TempDir(), "bus"), Name: "second", Operator: operator, Accounts: accounts, Listen: s.broker.URL()[len("tls://"):],
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil }, Log: zerolog.Nop(),
	})
	if certctl.ErrorCode(err) != certctl.Unavailable {
		t.Errorf("the second broker on one address: %v", err)
	}
}

func TestABrokerKeepsItsStreams(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"plain": "", "encrypted": "a key for the files"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			identity, err := bus.NewIdentity(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			operator, err := bus.OperatorJWT(identity)
			if err != nil {
				t.Fatal(err)
			}
			s := &site{identity: identity, facts: bus.Facts{Version: time.Now().UnixMicro()}}
			config := broker.Config{
				Dir: filepath.Join(t.TempDir(), "bus"), Name: "b", Operator: operator, Accounts: s.accountsWithRoot(t), StoreKey: key, Log: zerolog.Nop(),
			}
			for run := range 2 {
				s.runOnce(t, config, run)
			}
			if readable := holds(t, config.Dir, canary); readable != (key == "") {
				t.Errorf("events can be read in the files: %v", readable)
			}
		})
	}
}

const canary = "a canary in a shaft"

// runOnce starts a broker, publishes the run's event and stops it.
func (s *site) runOnce(t *testing.T, config broker.Config, run int) {
	t.Helper()
	var err error
	if s.broker, err = broker.Start(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	s.root = s.connectRoot(t)
	if run == 0 {
		s.makeStreams(t)
	}
	publish(t, s, bus.SubjectEvent("default", certctl.AggregateSystem, "started"), canary)
	stream, err := s.js.Stream(t.Context(), bus.StreamEvent)
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got != uint64(run+1) {
		t.Errorf("run %d: %d messages", run, got)
	}
	if err := s.broker.Ready(); err != nil {
		t.Error(err)
	}
	s.root.Close()
	if err := s.broker.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.broker.Ready() == nil {
		t.Error("a stopped broker says it is ready")
	}
}

// holds reports whether a file below dir contains text.
func holds(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func publish(t *testing.T, s *site, subject, body string) {
	t.Helper()
	message, err := s.root.Request(subject, []byte(body), patience)
	if err != nil {
		t.Fatal(err)
	}
	if len(message.Data) == 0 {
		t.Fatalf("%s is not stored", subject)
	}
}

// Nobody connects without TLS, and a renewed certificate serves the next
// connection.
func TestConnectionsAreEncrypted(t *testing.T) {
	t.Parallel()
	identity, err := bus.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	operator, err := bus.OperatorJWT(identity)
	if err != nil {
		t.Fatal(err)
	}
	accounts, err := bus.AccountJWTs(identity, bus.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	var serving atomic.Pointer[tls.Certificate]
	first, _ := selfSigned(t)
	serving.Store(first)
	b, err := broker.Start(t.Context(), broker.Config{
		Dir: filepath.Join(t.TempDir(), "bus"), Name: "b", Operator: operator, Accounts: accounts, Listen: "127.0.0.1:0",
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return serving.Load(), nil }, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	address := b.URL()[len("tls://"):]
	if nc, err := nats.Connect("nats://" + address); err == nil {
		nc.Close()
		t.Error("connected without TLS")
	}
	if served(t, address, 0) != string(first.Certificate[0]) {
		t.Error("another certificate is served")
	}
	second, _ := selfSigned(t)
	serving.Store(second)
	if served(t, address, 0) != string(second.Certificate[0]) {
		t.Error("the renewed certificate is not served")
	}
	if conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.2 is served")
	}
}

func served(t *testing.T, address string, version uint16) string {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return string(conn.ConnectionState().PeerCertificates[0].Raw)
}

// A reader's client may not know how to say its TLS hello first.
func TestClientsThatWaitForTheBroker(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	text, err := bus.PlatformCredentials(s.identity, bus.RoleAPI, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(s.broker.URL(), nats.UserCredentialBytes([]byte(text)),
		nats.Secure(&tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS13}), nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

func TestDocumentsOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stranger, err := bus.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := bus.AccountJWTs(stranger, bus.Facts{Version: s.facts.Version + 1})
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := s.broker.UpdateAccounts(foreign); certctl.ErrorCode(err) != certctl.Denied || len(changed) > 0 {
		t.Errorf("changed %v, %v", changed, err)
	}
	// The account's own name under the stranger's signature.
	claims, err := jwt.DecodeAccountClaims(foreign[2].JWT)
	if err != nil {
		t.Fatal(err)
	}
	foreign[2].Key, claims.Subject = s.identity.Account(bus.AccountAgents), s.identity.Account(bus.AccountAgents)
	thief := &site{identity: stranger}
	if foreign[2].JWT, err = claims.Encode(thief.pair(t, "operator-signing")); err != nil {
		t.Fatal(err)
	}
	if changed, err := s.broker.UpdateAccounts(foreign[2:3]); certctl.ErrorCode(err) != certctl.Denied || len(changed) > 0 {
		t.Errorf("changed %v, %v", changed, err)
	}
}

func TestOlderDocumentsChangeNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	older, err := bus.AccountJWTs(s.identity, bus.Facts{Version: s.facts.Version - 1})
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := s.broker.UpdateAccounts(older[2:]); err != nil || len(changed) > 0 {
		t.Errorf("older documents changed %v, %v", changed, err)
	}
	newer, err := bus.AccountJWTs(s.identity, bus.Facts{Version: s.facts.Version + 1})
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := s.broker.UpdateAccounts(newer[2:]); err != nil || len(changed) != 1 {
		t.Errorf("newer documents changed %v, %v", changed, err)
	}
	if changed, err := s.broker.UpdateAccounts(newer[2:]); err != nil || len(changed) != 0 {
		t.Errorf("the same documents again changed %v, %v", changed, err)
	}
}
