package sds_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote"
	"github.com/certctl/certctl/agent/target/remote/sds"
	"github.com/certctl/certctl/agent/target/targettest"
)

// anything is the policy of a node whose owner allows all.
type anything struct{}

func (anything) AllowDirectory(string) error  { return nil }
func (anything) AllowConfig(string) error     { return nil }
func (anything) AllowCommand([]string) error  { return nil }
func (anything) AllowSocket(string) error     { return nil }
func (anything) AllowSocketUser(string) error { return nil }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shortDir is a folder for sockets, whose paths must be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "certctl-sds-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755)) //nolint:gosec // others are to come as far as the socket
	return dir
}

func settingsOf(dir string) map[string]any {
	return map[string]any{"directory": filepath.Join(dir, "tls"), "socket": filepath.Join(dir, "sds.sock")}
}

func specOf(t *testing.T, settings map[string]any) certctl.TargetCommand {
	t.Helper()
	encoded, err := json.Marshal(settings)
	must(t, err)
	return certctl.TargetCommand{Name: "mesh", Kind: "sds", Settings: encoded}
}

func table() target.Table { return remote.KindsServing(sds.Start) }

// startSDS starts a client, and describes the target that it gets its secrets from.
func startSDS(delta bool) func(t *testing.T) *targettest.Daemon {
	return func(t *testing.T) *targettest.Daemon {
		t.Helper()
		dir := shortDir(t)
		settings := settingsOf(dir)
		c := startClient(t, filepath.Join(dir, "sds.sock"), delta)
		settings["listen"], settings["wait_seconds"] = []string{c.listener.Addr().String()}, 60
		return &targettest.Daemon{
			Spec: specOf(t, settings), Table: table(), Directory: filepath.Join(dir, "tls"), Policy: anything{}, Address: c.listener.Addr().String(),
			Hands: true, Complaint: complaint, Break: func() { c.refuse(true) }, Repair: func() { c.refuse(false) },
		}
	}
}

func TestStateOfTheWorld(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startSDS(false))
}

func TestDelta(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startSDS(true))
}

// open opens a target as the agent does, and closes it with the test.
func open(t *testing.T, settings map[string]any, bound ...target.Place) target.Opened {
	t.Helper()
	opened, err := table().Open(specOf(t, settings), target.Env{Policy: anything{}, Now: time.Now, StateDir: t.TempDir()})
	must(t, err)
	binder, ok := opened.(target.Binder)
	if !ok {
		t.Fatalf("it is a %T", opened)
	}
	t.Cleanup(func() { must(t, binder.Close()) })
	binder.Bind(func() []target.Place { return bound })
	return opened
}

// Without a listener to probe it is what the client says that counts, and what nobody
// has taken is only installed. The same again is not sent again.
func TestLoadedIsWhatAClientSays(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	settings := settingsOf(dir)
	next := targettest.Installs(t, "shop", "shop.example.com")
	settings["wait_seconds"] = 0
	silent := open(t, settings)
	if r := silent.Apply(t.Context(), []target.Install{next()})[0]; r.Outcome != certctl.OutcomeInstalled || r.VerifiedBy != "installed" {
		t.Fatalf("nobody has asked: %+v", r)
	}
	must(t, silent.(target.Binder).Close()) //nolint:forcetypeassert // see open
	settings["wait_seconds"] = 60
	opened := open(t, settings, target.Place{Name: "shop", Slot: certctl.SlotDefault})
	must(t, opened.Recover(t.Context()))
	stream, err := secretv3.NewSecretDiscoveryServiceClient(dial(t, filepath.Join(dir, "sds.sock"))).DeltaSecrets(t.Context())
	must(t, err)
	must(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResourceNamesSubscribe: []string{"shop"}}))
	answered, sent := make(chan error, 1), make(chan string, 10)
	must(t, acknowledge(stream, sent, 1)) // of before the restart
	go func() { answered <- acknowledge(stream, sent, 1) }()
	second := next()
	for range 2 {
		if r := opened.Apply(t.Context(), []target.Install{second})[0]; r.Outcome != certctl.OutcomeInstalled || r.VerifiedBy != "loaded" {
			t.Errorf("a client has taken it: %+v", r)
		}
	}
	must(t, <-answered)
	if len(sent) != 2 {
		t.Errorf("%d secrets were sent", len(sent))
	}
}

// acknowledge takes some responses.
func acknowledge(stream secretv3.SecretDiscoveryService_DeltaSecretsClient, sent chan<- string, n int) error {
	for range n {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		sent <- response.GetSystemVersionInfo()
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResponseNonce: response.GetNonce()}); err != nil {
			return err
		}
	}
	return nil
}

// firstOf returns the names of what a new stream for everything is sent first.
func firstOf(ctx context.Context, client secretv3.SecretDiscoveryServiceClient) ([]string, error) {
	stream, err := client.StreamSecrets(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: resource.SecretType}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err // io.EOF: Recv says why
	}
	response, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, r := range response.GetResources() {
		var secret tlsv3.Secret
		if err := r.UnmarshalTo(&secret); err != nil {
			return nil, err
		}
		all = append(all, secret.GetName())
	}
	return all, nil
}

// After a restart the same is handed out: what is bound, and nothing else that lies
// there; until the target is closed, when streams end and the socket is gone.
func TestHandsOutWhatIsBound(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	settings := settingsOf(dir)
	settings["wait_seconds"] = 0
	first := open(t, settings)
	first.Apply(t.Context(), []target.Install{targettest.Installs(t, "shop", "shop.example.com")(), targettest.Installs(t, "blog", "blog.example.com")()})
	must(t, first.(target.Binder).Close()) //nolint:forcetypeassert // see open
	opened := open(t, settings, target.Place{Name: "shop", Slot: certctl.SlotDefault})
	if _, err := os.Lstat(filepath.Join(dir, "sds.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("to open it has made a socket: %v", err)
	}
	must(t, opened.Recover(t.Context()))
	connection := dial(t, filepath.Join(dir, "sds.sock"))
	client := secretv3.NewSecretDiscoveryServiceClient(connection)
	if got, err := firstOf(t.Context(), client); err != nil || len(got) != 1 || got[0] != "shop" {
		t.Errorf("got %v, %v", got, err)
	}
	stream, err := client.StreamSecrets(t.Context())
	must(t, err)
	must(t, stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: resource.SecretType, ResourceNames: []string{"shop"}}))
	_, err = stream.Recv()
	must(t, err)
	must(t, opened.Forget(t.Context(), certctl.ForgetCommand{Place: "shop", Slot: certctl.SlotDefault}))
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream of a target without places lives")
	}
	if _, err := os.Lstat(filepath.Join(dir, "sds.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket of a target without places: %v", err)
	}
}

// A socket of another is refused at once and left alone.
func TestSocketOfAnother(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	settings := settingsOf(dir)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "sds.sock"))
	must(t, err)
	defer listener.Close()
	r := open(t, settings).Apply(t.Context(), []target.Install{targettest.Installs(t, "shop", "shop.example.com")()})[0]
	if r.Outcome != certctl.OutcomeFailed || r.Code != "reload_failed" || !strings.Contains(r.Message, "somebody listens") || r.Remedy == "" {
		t.Errorf("receipt %+v", r)
	}
}
