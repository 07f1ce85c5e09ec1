package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/remote/kube"
	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/storetest"
	"github.com/rs/zerolog"
)

// secrets stands in for Kubernetes' API: deploy/test/chart has the real one.
type secrets struct {
	mu     sync.Mutex
	held   map[string]kube.Secret
	writes int
}

func (s *secrets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/pki/secrets/")
	var sent kube.Secret
	if r.Method != http.MethodGet {
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		name = sent.Metadata.Name
		s.writes++
	}
	held, ok := s.held[name]
	switch {
	case r.Method == http.MethodPost && ok:
		w.WriteHeader(http.StatusConflict)
		return
	case r.Method != http.MethodPost && !ok:
		w.WriteHeader(http.StatusNotFound)
		return
	case r.Method != http.MethodGet:
		s.held[name], held = sent, sent
	}
	_ = json.NewEncoder(w).Encode(held)
}

// account is a pod's for the server.
func (s *secrets) account(t *testing.T) *kube.Client {
	t.Helper()
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "namespace"), "pki")
	write(t, filepath.Join(dir, "token"), "t0ken")
	write(t, filepath.Join(dir, "ca.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client, err := kube.InCluster(dir, func(name string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func kubernetesWorld(t *testing.T, database string) (*secrets, *kubernetesSetup) {
	t.Helper()
	held := &secrets{held: map[string]kube.Secret{}}
	client := held.account(t)
	key := filepath.Join(t.TempDir(), "api-key")
	write(t, key, "0123456789abcdef0123456789abcdef")
	return held, &kubernetesSetup{
		client: client, log: zerolog.Nop(), retry: 10 * time.Millisecond,
		config: &Config{Roles: []string{"signer"}, DatabaseURL: database, DataDir: t.TempDir(), PKIURL: "http://pki.example.com", APIKeyFile: key},
		command: kubernetesCommand{
			KeysSecret: "c-keys", SharedKeysSecret: "c-shared-keys", TLSSecret: "c-tls", BusSecret: "c-bus", AgentSecret: "c-agent",
			Host: []string{"c-server", "c-nats"}, Node: []string{"c-nats-0=0.0.0.0:4222"}, StoreDir: "/data", TLSDir: "/etc/nats/tls",
			TokenUses: 3, TokenLife: certctl.Duration(certctl.Day), Wait: time.Minute,
		},
	}
}

// untilItWaits ends when the setup says that it waits: its time is over then.
func (s *kubernetesSetup) untilItWaits(t *testing.T, says string) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s.log = zerolog.New(io.Discard).Hook(zerolog.HookFunc(func(_ *zerolog.Event, _ zerolog.Level, message string) {
		if message == says {
			cancel()
		}
	}))
	return ctx
}

func TestKubernetesSecretsAreMadeOnce(t *testing.T) {
	t.Parallel()
	held, setup := kubernetesWorld(t, storetest.URL(t))
	if err := setup.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"c-keys": {"kek-ca.key"}, "c-shared-keys": {"kek-pki.key", "kek-secrets.key"}, "c-tls": {"ca.crt", "tls.crt", "tls.key"},
		"c-bus": {
			"accounts.conf", "api.creds", "c-nats-0.conf", "ca.crt", "operator.jwt", "pusher.creds", "scheduler.creds", "signer.creds", "worker.creds",
		},
		"c-agent": {"ca.crt", "token"},
	} {
		if got := slices.Sorted(maps.Keys(held.held[name].Data)); !slices.Equal(got, want) {
			t.Errorf("%s holds %v, want %v", name, got, want)
		}
	}
	before, writes := maps.Clone(held.held), held.writes
	setup.config.DataDir = t.TempDir() // another pod
	if err := setup.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if held.writes != writes {
		t.Errorf("a second run has written %d Secrets", held.writes-writes)
	}
	// More servers and another certificate of the API: keys and tokens stay.
	setup.command.Node = []string{"a=a:1,route=a:2,zone=a", "b=b:1,route=b:2,zone=b", "c=c:1,route=c:2,zone=c"}
	setup.command.APITLSSecret = "others"
	other, err := setup.makeTLS()
	if err != nil {
		t.Fatal(err)
	}
	held.held["others"] = *other
	if err := setup.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := held.held
	if string(after["c-agent"].Data["token"]) != string(before["c-agent"].Data["token"]) || string(after["c-agent"].Data["ca.crt"]) != string(other.Data["ca.crt"]) {
		t.Errorf("the agents' Secret: %v", after["c-agent"])
	}
	if trust := string(after["c-bus"].Data["ca.crt"]); strings.Count(trust, "BEGIN") != 2 || after["c-bus"].Data["b.conf"] == nil {
		t.Errorf("the bus's Secret: %v, trusts %s", slices.Sorted(maps.Keys(after["c-bus"].Data)), trust)
	}
}

func TestKubernetesTokenIsReplacedWhenUsedUp(t *testing.T) {
	t.Parallel()
	held, setup := kubernetesWorld(t, storetest.URL(t))
	if err := setup.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	spent := held.held["c-agent"]
	spent.Data = map[string][]byte{"token": []byte("cct_of_yesterday"), "ca.crt": spent.Data["ca.crt"]}
	held.held["c-agent"] = spent
	if err := setup.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := string(held.held["c-agent"].Data["token"]); got == "cct_of_yesterday" {
		t.Error("the token is still the one that is used up")
	}
}

// A release that knew no fleets has made the token, and agents have joined with it.
func TestKubernetesTokenFromBeforeFleetsIsOfTheFleet(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	held, setup := kubernetesWorld(t, url)
	if err := setup.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	if _, err := st.Pool().Exec(t.Context(), `update join_token set replace = true, fleet = ''`); err != nil {
		t.Fatal(err)
	}
	writes := held.writes
	if err := setup.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	tokens, err := st.ListJoinTokens(t.Context(), certctl.Actor{Principal: certctl.Principal{Roles: []certctl.Role{certctl.RoleAdmin}}}, certctl.NamedFilter{})
	if err != nil || len(tokens.Items) != 1 || tokens.Items[0].Fleet != kubernetesFleet || tokens.Items[0].Replace || held.writes != writes {
		t.Errorf("tokens %+v, %d writes, %v", tokens.Items, held.writes-writes, err)
	}
}

func TestKubernetesSecretsOfOthersAreWaitedFor(t *testing.T) {
	t.Parallel()
	held, setup := kubernetesWorld(t, storetest.URL(t))
	setup.command.Given = []string{"c-keys"}
	if err := setup.run(setup.untilItWaits(t, "waiting for the Secret")); certctl.ErrorCode(err) != certctl.NotFound || !strings.Contains(err.Error(), "c-keys") {
		t.Errorf("%v", err)
	}
	if len(held.held) != 0 {
		t.Errorf("made %v", held.held)
	}
	held.held["c-keys"] = kube.Secret{Metadata: kube.Metadata{Name: "c-keys"}, Data: map[string][]byte{"other": nil}}
	if err := setup.run(t.Context()); err == nil || !strings.Contains(err.Error(), "has no kek-ca.key") {
		t.Errorf("%v", err)
	}
}

func TestKubernetesWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	_, setup := kubernetesWorld(t, "postgres://certctl@127.0.0.1:1/certctl")
	if err := setup.run(setup.untilItWaits(t, "waiting for the database")); certctl.ErrorCode(err) != certctl.Unavailable || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(setup.config.DataDir, fileCAKey)); err != nil {
		t.Error(err)
	}
}
