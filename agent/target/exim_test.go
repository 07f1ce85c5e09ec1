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

// startExim starts a real Exim whose configuration names the place's file, in an
// expansion, from the beginning.
func startExim(t *testing.T) *targettest.Daemon {
	t.Helper()
	binary, err := local.FindExim()
	must(t, err)
	port, err := local.FreePort()
	must(t, err)
	dir, _, directory := ownedHome(t, "Debian-exim")
	exim := &local.Exim{Dir: filepath.Join(dir, "exim"), Listen: local.Loopback(port)}
	must(t, os.Mkdir(exim.Dir, 0o700))
	current := filepath.Join(directory, "shop", "current")
	exim.Config = fmt.Sprintf("tls_certificate = ${if bool{true}{%s/bundle.pem}}\n", current)
	must(t, exim.Start(t.Context()))
	t.Cleanup(exim.Kill)
	good, err := os.ReadFile(exim.ConfigFile())
	must(t, err)
	write := func(content []byte) func() {
		return func() { must(t, os.WriteFile(exim.ConfigFile(), content, 0o600)) }
	}
	return &targettest.Daemon{
		Spec: spec(t, "exim", map[string]any{
			"directory": directory, "config": exim.ConfigFile(), "binary": binary, "listen": []string{"smtp://" + exim.Listen},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: "smtp://" + exim.Listen, Complaint: "no_such_option",
		Break: write(append(bytes.Clone(good), "no_such_option = x\n"...)), Repair: write(good),
	}
}

func TestExim(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startExim)
}

func TestEximSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"a relative configuration": `{"directory": "/srv/tls", "listen": [], "config": "exim.conf"}`,
		"a pid file":               `{"directory": "/srv/tls", "listen": [], "pid_file": "/run/exim4/exim.pid"}`,
		"a program by its name":    `{"directory": "/srv/tls", "listen": [], "reload": ["systemctl", "reload", "exim4"]}`,
	} {
		if err := target.Validate("exim", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("exim", []byte(`{"directory": "/srv/tls", "listen": ["smtp://127.0.0.1:25", "127.0.0.1:465"], "reload": ["/usr/bin/systemctl", "reload", "exim4"]}`)))
}
