package target_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

func TestMain(m *testing.M) {
	target.StagedExec() // a staged check starts this program once more
	if len(os.Args) == 3 && os.Args[1] == askArgument {
		os.Exit(ask(os.Args[2]))
	}
	os.Exit(m.Run())
}

// anything is the policy of a node whose owner allows all.
type anything struct{}

func (anything) AllowDirectory(string) error { return nil }
func (anything) AllowConfig(string) error    { return nil }
func (anything) AllowCommand([]string) error { return nil }

func spec(t *testing.T, kind string, settings any) certctl.TargetCommand {
	t.Helper()
	encoded, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	return certctl.TargetCommand{Name: "web", Kind: kind, Settings: encoded}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startNginx starts a real nginx whose server blocks the target renders.
func startNginx(t *testing.T) *targettest.Daemon {
	t.Helper()
	dir := t.TempDir()
	port, err := local.FreePort()
	must(t, err)
	address := local.Loopback(port)
	tls := filepath.Join(dir, "tls")
	nginx := &local.Nginx{Dir: dir, Config: local.NginxConfig(dir, filepath.Join(tls, "*", "current", "*.conf"))}
	must(t, nginx.Start(t.Context()))
	t.Cleanup(nginx.Kill)
	settings, err := local.NginxTarget(nginx, address)
	must(t, err)
	good, err := os.ReadFile(nginx.ConfigFile())
	must(t, err)
	return &targettest.Daemon{
		Spec: spec(t, "nginx", settings), Directory: tls, Policy: anything{}, Address: address, Complaint: "no_such_directive",
		Break:  func() { must(t, os.WriteFile(nginx.ConfigFile(), append(good, "no_such_directive on;\n"...), 0o600)) },
		Repair: func() { must(t, os.WriteFile(nginx.ConfigFile(), good, 0o600)) },
	}
}

func TestNginx(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startNginx)
}

// A configuration that is sound and does not serve the leaf is no success: the
// probe decides, not the daemon's check.
func TestNginxThatServesSomethingElseIsFoundOut(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	var settings map[string]any
	must(t, json.Unmarshal(d.Spec.Settings, &settings))
	block, ok := settings["server_block"].(string)
	if !ok {
		t.Fatal("no server block")
	}
	// It listens, and serves another certificate than the one that was installed.
	elsewhere := filepath.Join(t.TempDir(), "other")
	settings["server_block"] = strings.ReplaceAll(strings.ReplaceAll(block, "{{.Fullchain}}", elsewhere+".crt"), "{{.Key}}", elsewhere+".key")
	targettest.WritePair(t, elsewhere+".crt", elsewhere+".key", "shop.example.com")
	d.Spec = spec(t, "nginx", settings)
	targettest.IsNotServed(t, d)
}

// Settings that cannot work are refused before anything is touched.
func TestNginxSettings(t *testing.T) {
	t.Parallel()
	d := startNginx(t)
	var settings map[string]any
	must(t, json.Unmarshal(d.Spec.Settings, &settings))
	for field, bad := range map[string]any{
		"directory": "relative", "listen": []string{"nowhere"}, "server_block": "{{.Nothing}}", "unknown": 1, "config": "",
	} {
		changed := map[string]any{}
		for k, v := range settings {
			changed[k] = v
		}
		changed[field] = bad
		encoded, err := json.Marshal(changed)
		must(t, err)
		if err := target.Validate("nginx", encoded); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s = %v: %v", field, bad, err)
		}
	}
	must(t, target.Validate("nginx", d.Spec.Settings))
}
