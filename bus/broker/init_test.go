package broker_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/broker"
)

// external is a NATS that runs on what Init wrote, as `nats-server -c` does.
type external struct {
	dir     string
	options broker.InitOptions
	roots   *x509.CertPool
	servers []*server.Server
}

// newExternal writes the files of a NATS of so many servers and starts them.
func newExternal(t *testing.T, nodes int, more func(*broker.InitOptions)) *external {
	t.Helper()
	identity, err := bus.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e := &external{dir: filepath.Join(t.TempDir(), "nats")}
	e.options = broker.InitOptions{
		Identity: identity, Facts: bus.Facts{Version: time.Now().UnixMicro()}, Now: time.Now(),
		StoreDir: filepath.Join(t.TempDir(), "store"),
	}
	e.writeCertificate(t)
	for i := range nodes {
		name := string(rune('a' + i))
		e.options.Nodes = append(e.options.Nodes, broker.Node{Name: "nats-" + name, Listen: freeAddress(t), Route: freeAddress(t), Zone: name})
	}
	if more != nil {
		more(&e.options)
	}
	written, err := broker.Init(e.dir, e.options)
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 + nodes + len(bus.Roles) + 1; len(written) != want {
		t.Errorf("wrote %d files instead of %d: %v", len(written), want, written)
	}
	for i, node := range e.options.Nodes {
		e.servers = append(e.servers, e.run(t, node, i))
	}
	for _, running := range e.servers {
		if !running.ReadyForConnections(patience) {
			t.Fatalf("%s does not become ready", running.Name())
		}
	}
	return e
}

func (e *external) writeCertificate(t *testing.T) {
	t.Helper()
	certificate, roots := selfSigned(t)
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	e.roots, e.options.CertFile, e.options.KeyFile = roots, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	e.options.CAFile = e.options.CertFile
	for path, block := range map[string]*pem.Block{
		e.options.CertFile: {Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}, e.options.KeyFile: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// run starts a server with its configuration file, and with a folder of its own:
// all of them are on one machine here.
func (e *external) run(t *testing.T, node broker.Node, i int) *server.Server {
	t.Helper()
	path := filepath.Join(e.dir, node.Name+".conf")
	if i > 0 {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		moved := strings.ReplaceAll(string(text), e.options.StoreDir, e.options.StoreDir+node.Zone)
		if err := os.WriteFile(path, []byte(moved), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	options, err := server.ProcessConfigFile(path)
	if err != nil {
		t.Fatal(err)
	}
	options.NoLog, options.NoSigs = true, true
	running, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	running.Start()
	t.Cleanup(func() {
		running.Shutdown()
		running.WaitForShutdown()
	})
	return running
}

// connect logs in with a credentials file that Init wrote.
func (e *external) connect(t *testing.T, name string) *bus.Conn {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, "credentials", name+".creds"))
	if err != nil {
		t.Fatal(err)
	}
	token, seed, err := bus.ParseCredentials(text)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.Connect(t.Context(), bus.Options{
		URLs: []string{e.servers[0].ClientURL()}, Name: name, InboxPrefix: bus.InboxPrefix(name), TLS: e.tls(), Log: zerolog.Nop(),
		JWT: func() (string, error) { return token, nil }, Sign: pair.Sign,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn
}

func (e *external) tls() *tls.Config {
	return &tls.Config{RootCAs: e.roots, MinVersion: tls.VersionTLS13}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestAnExternalServerStartsWithWhatInitWrites(t *testing.T) {
	t.Parallel()
	e := newExternal(t, 1, nil)
	options := e.servers[0]
	if !options.JetStreamEnabled() || options.JetStreamConfig().SyncAlways != true {
		t.Errorf("JetStream: %+v", options.JetStreamConfig())
	}
	for _, role := range bus.Roles {
		e.connect(t, string(role))
	}
	for _, role := range append([]bus.Role{bus.Pusher}, bus.Roles...) {
		info, err := os.Stat(filepath.Join(e.dir, "credentials", string(role)+".creds"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("credentials of %s: %v, %v", role, info.Mode(), err)
		}
	}
	// The streams can be made by a role, and written to.
	js, err := jetstream.New(e.worker(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: bus.StreamEvent, Subjects: []string{"certctl.v1.event.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), bus.SubjectEvent("default", certctl.AggregateSystem, "x"), nil); err != nil {
		t.Fatal(err)
	}
}

func TestAccountsArePushedToAnExternalServer(t *testing.T) {
	t.Parallel()
	e := newExternal(t, 1, nil)
	pusher := e.connect(t, bus.Pusher)
	pair, public := newUser(t)
	id := certctl.NewID(time.Now())
	token, err := bus.AgentJWT(e.options.Identity, id, public, time.Now(), bus.UserLife)
	if err != nil {
		t.Fatal(err)
	}
	dropped := make(chan error, 4)
	dial := func() (*nats.Conn, error) {
		return nats.Connect(e.servers[0].ClientURL(), loginOption(token, pair), nats.Secure(e.tls()), nats.TLSHandshakeFirst(), nats.NoReconnect(),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { dropped <- err }))
	}
	agent, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	reader := certctl.Reader{ID: certctl.NewID(time.Now()), CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
	facts := e.options.Facts
	push := func(want ...string) {
		t.Helper()
		documents, err := bus.AccountJWTs(e.options.Identity, facts)
		if err != nil {
			t.Fatal(err)
		}
		changed, err := bus.PushAccounts(t.Context(), pusher, documents)
		if err != nil || strings.Join(changed, " ") != strings.Join(want, " ") {
			t.Errorf("changed %v instead of %v, %v", changed, want, err)
		}
	}
	push() // what Init wrote is what there is
	facts.Version++
	facts.Retired = []certctl.RetiredAgent{{Key: public, At: time.Now()}}
	facts.Readers = []certctl.Reader{reader}
	push(bus.AccountAgents, bus.AccountEvents+"-"+reader.ID.String())
	if err := receive(t, dropped, "end of the retired agent"); !errors.Is(err, nats.ErrAuthRevoked) {
		t.Errorf("the connection ended with %v", err)
	}
	if nc, err := dial(); !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Errorf("logged in again: %v", err)
	}
	text, err := bus.ReaderCredentials(e.options.Identity, reader, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(e.servers[0].ClientURL(), nats.UserCredentialBytes([]byte(text)), nats.Secure(e.tls()))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	facts = e.options.Facts // a replica that is behind
	push()
	if nc, err := dial(); !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Errorf("logged in again: %v", err)
	}
}

func TestOthersCannotPushAccounts(t *testing.T) {
	t.Parallel()
	e := newExternal(t, 1, nil)
	documents, err := bus.AccountJWTs(e.options.Identity, bus.Facts{Version: time.Now().UnixMicro()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := timeout(t, time.Second)
	defer cancel()
	if changed, err := bus.PushAccounts(ctx, e.connect(t, string(bus.RoleWorker)), documents); err == nil || len(changed) > 0 {
		t.Errorf("a worker pushed %v: %v", changed, err)
	}
}

func TestAnExternalServerKeepsNewerAccountsOverARestart(t *testing.T) {
	t.Parallel()
	e := newExternal(t, 1, nil)
	pair, public := newUser(t)
	id := certctl.NewID(time.Now())
	token, err := bus.AgentJWT(e.options.Identity, id, public, time.Now(), bus.UserLife)
	if err != nil {
		t.Fatal(err)
	}
	documents, err := bus.AccountJWTs(e.options.Identity, bus.Facts{
		Version: e.options.Facts.Version + time.Second.Microseconds(), Retired: []certctl.RetiredAgent{{Key: public, At: time.Now()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.PushAccounts(t.Context(), e.connect(t, bus.Pusher), documents); err != nil {
		t.Fatal(err)
	}
	e.servers[0].Shutdown()
	e.servers[0].WaitForShutdown()
	again := e.run(t, e.options.Nodes[0], 0)
	if !again.ReadyForConnections(patience) {
		t.Fatal("does not start again")
	}
	if nc, err := nats.Connect(again.ClientURL(), loginOption(token, pair), nats.Secure(e.tls())); !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Errorf("a restart forgot the retired agent: %v", err)
	}
}

func TestAClusterStartsWithWhatInitWrites(t *testing.T) {
	t.Parallel()
	e := newExternal(t, 3, nil)
	js, err := jetstream.New(e.worker(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	config := jetstream.StreamConfig{Name: bus.StreamEvent, Subjects: []string{"certctl.v1.event.>"}, Replicas: 3}
	// Until the three have found each other and elected a leader, nobody answers.
	stream, err := (jetstream.Stream)(nil), errors.New("not asked")
	for deadline := time.Now().Add(time.Minute); err != nil; {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		ctx, cancel := timeout(t, time.Second)
		stream, err = js.CreateStream(ctx, config)
		cancel()
	}
	if replicas := stream.CachedInfo().Cluster.Replicas; len(replicas) != 2 {
		t.Errorf("replicas %+v", replicas)
	}
}

func TestTheFilesCanBeEncrypted(t *testing.T) {
	t.Setenv("CERTCTL_TEST_STORE_KEY", "a1b2c3d4e5f6")
	for variable, want := range map[string]bool{"": true, "CERTCTL_TEST_STORE_KEY": false} {
		e := newExternal(t, 1, func(o *broker.InitOptions) { o.StoreKeyVariable = variable })
		nc := e.worker(t, 0)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: bus.StreamEvent, Subjects: []string{"certctl.v1.event.>"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), bus.SubjectEvent("default", certctl.AggregateSystem, "x"), []byte(canary)); err != nil {
			t.Fatal(err)
		}
		if readable := holds(t, filepath.Join(e.options.StoreDir, "jetstream"), canary); readable != want {
			t.Errorf("with the key in %q events can be read in the files: %v", variable, readable)
		}
	}
}

// worker connects to a server with the worker's credentials.
func (e *external) worker(t *testing.T, i int) *nats.Conn {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, "credentials", "worker.creds"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(e.servers[i].ClientURL(), nats.UserCredentialBytes(text), nats.Secure(e.tls()), nats.CustomInboxPrefix(bus.InboxPrefix("worker")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestInitRefuses(t *testing.T) {
	t.Parallel()
	identity, err := bus.NewIdentity(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	node := broker.Node{Name: "n", Listen: "127.0.0.1:4222"}
	good := broker.InitOptions{
		Identity: identity, Now: time.Now(), Nodes: []broker.Node{node}, StoreDir: "/data", CertFile: "/tls.crt", KeyFile: "/tls.key", CAFile: "/ca.crt",
	}
	for name, spoil := range map[string]func(*broker.InitOptions){
		"no server":            func(o *broker.InitOptions) { o.Nodes = nil },
		"two servers":          func(o *broker.InitOptions) { o.Nodes = []broker.Node{node, {Name: "m", Listen: "127.0.0.1:1"}} },
		"a name of accounts":   func(o *broker.InitOptions) { o.Nodes[0].Name = "accounts" },
		"a path as a name":     func(o *broker.InitOptions) { o.Nodes[0].Name = "../x" },
		"no address":           func(o *broker.InitOptions) { o.Nodes[0].Listen = "localhost" },
		"an address that ends": func(o *broker.InitOptions) { o.Nodes[0].Listen = "\"\n:1" },
		"no folder":            func(o *broker.InitOptions) { o.StoreDir = "" },
		"a folder that ends":   func(o *broker.InitOptions) { o.StoreDir = "/data\"\nhttp: 8222" },
		"no certificate":       func(o *broker.InitOptions) { o.CertFile = "" },
		"a variable and more":  func(o *broker.InitOptions) { o.StoreKeyVariable = "A\nhttp: 8222" },
		"a cluster of islands": func(o *broker.InitOptions) {
			o.Nodes = []broker.Node{{Name: "a", Listen: "a:1"}, {Name: "b", Listen: "b:1"}, {Name: "c", Listen: "c:1"}}
		},
	} {
		options := good
		options.Nodes = append([]broker.Node(nil), good.Nodes...)
		spoil(&options)
		dir := filepath.Join(t.TempDir(), "nats")
		if _, err := broker.Init(dir, options); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: something was written", name)
		}
	}
	dir := filepath.Join(t.TempDir(), "nats")
	if _, err := broker.Init(dir, good); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.Init(dir, good); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("written twice: %v", err)
	}
}
