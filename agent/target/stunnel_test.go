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

// startStunnel starts a real stunnel with a certificate of its own. Its configuration
// names the place's files from then on.
func startStunnel(t *testing.T) *targettest.Daemon {
	t.Helper()
	port, err := local.FreePort()
	must(t, err)
	stunnel := &local.Stunnel{Dir: t.TempDir(), Listen: local.Loopback(port)}
	first, directory := filepath.Join(stunnel.Dir, "first"), filepath.Join(stunnel.Dir, "tls")
	must(t, os.Mkdir(first, 0o700))
	targettest.WritePair(t, filepath.Join(first, "fullchain.pem"), filepath.Join(first, "privkey.pem"), "stunnel.example.com")
	stunnel.Config = fmt.Sprintf("cert = %s/fullchain.pem\nkey = %s/privkey.pem\n", first, first)
	must(t, stunnel.Start(t.Context()))
	t.Cleanup(stunnel.Kill)
	start, err := os.ReadFile(stunnel.ConfigFile())
	must(t, err)
	good := bytes.ReplaceAll(start, []byte(first), []byte(filepath.Join(directory, "shop", "current")))
	write := func(content []byte) func() {
		return func() { must(t, os.WriteFile(stunnel.ConfigFile(), content, 0o600)) }
	}
	write(good)()
	return &targettest.Daemon{
		Spec: spec(t, "stunnel", map[string]any{
			"directory": directory, "pid_file": stunnel.PIDFile(), "listen": []string{stunnel.Listen},
		}),
		// What it does not understand it does not use, and there is no complaint of its own.
		Directory: directory, Policy: anything{}, Single: true, Address: stunnel.Listen,
		Break: write(append(bytes.Clone(good), "no_such_option = 1\n"...)), Repair: write(good),
	}
}

func TestStunnel(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startStunnel)
}

func TestStunnelSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"a relative pid file":  `{"directory": "/srv/tls", "listen": [], "pid_file": "stunnel.pid"}`,
		"another kind's":       `{"directory": "/srv/tls", "listen": [], "server_block": ""}`,
		"an address of nobody": `{"directory": "/srv/tls", "listen": ["443"]}`,
	} {
		if err := target.Validate("stunnel", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("stunnel", []byte(`{"directory": "/srv/tls", "listen": ["127.0.0.1:443"]}`)))
}
