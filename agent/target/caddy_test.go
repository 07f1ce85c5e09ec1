//go:build daemons

package target_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// startCaddy starts a real Caddy with a certificate of its own. Its configuration
// names the place's files from then on.
func startCaddy(t *testing.T) *targettest.Daemon {
	t.Helper()
	binary, err := local.FindCaddy()
	must(t, err)
	port, err := local.FreePort()
	must(t, err)
	dir, first, directory := ownedHome(t, "caddy")
	caddy := &local.Caddy{Dir: filepath.Join(dir, "caddy"), Listen: local.Loopback(port)}
	must(t, os.Mkdir(caddy.Dir, 0o700))
	caddy.Config = fmt.Sprintf("tls %s/fullchain.pem %s/privkey.pem", first, first)
	must(t, caddy.Start(t.Context()))
	t.Cleanup(caddy.Kill)
	start, err := os.ReadFile(caddy.ConfigFile())
	must(t, err)
	write := func(content []byte) func() {
		return func() { must(t, os.WriteFile(caddy.ConfigFile(), content, 0o600)) }
	}
	good := bytes.ReplaceAll(start, []byte(first), []byte(filepath.Join(directory, "shop", "current")))
	write(good)()
	return &targettest.Daemon{
		Spec: spec(t, "caddy", map[string]any{
			"directory": directory, "config": caddy.ConfigFile(), "binary": binary, "listen": []string{caddy.Listen},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: caddy.Listen, Complaint: "no_such_directive",
		Break:  write(bytes.ReplaceAll(good, []byte("respond"), []byte("no_such_directive\n\trespond"))),
		Unname: write(start), Repair: write(good),
	}
}

func TestCaddy(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startCaddy)
}

func TestCaddySettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"a relative configuration": `{"directory": "/srv/tls", "listen": [], "config": "Caddyfile"}`,
		"a relative program":       `{"directory": "/srv/tls", "listen": [], "binary": "caddy"}`,
		"a relative directory":     `{"directory": "tls", "listen": []}`,
	} {
		if err := target.Validate("caddy", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("caddy", []byte(`{"directory": "/srv/tls", "listen": ["127.0.0.1:443"]}`)))
}
