//go:build daemons

package target_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

const natsConfig = `listen: "%s"
pid_file: "%s"
tls { cert_file: "%s/fullchain.pem", key_file: "%s/privkey.pem" }
`

// startNATS starts a real NATS server with a certificate of its own. Its
// configuration names files at which the place's are found then.
func startNATS(t *testing.T, binary string) *targettest.Daemon {
	t.Helper()
	dir := t.TempDir()
	port, err := local.FreePort()
	must(t, err)
	first, directory := filepath.Join(dir, "first"), filepath.Join(dir, "tls")
	must(t, os.Mkdir(first, 0o700))
	targettest.WritePair(t, filepath.Join(first, "fullchain.pem"), filepath.Join(first, "privkey.pem"), "nats.example.com")
	link, toPlace, toFirst := named(t, dir, first, directory)
	config, pidFile, address := filepath.Join(dir, "nats.conf"), filepath.Join(dir, "nats.pid"), local.Loopback(port)
	good := fmt.Appendf(nil, natsConfig, address, pidFile, link, link)
	must(t, os.WriteFile(config, good, 0o600))
	nats := &local.NATS{Binary: binary, Config: config, Listen: address}
	must(t, nats.Start(t.Context()))
	t.Cleanup(nats.Kill)
	must(t, os.WriteFile(pidFile, []byte(strconv.Itoa(nats.Process().PID())), 0o600)) // it may not have written it yet
	toPlace()
	return &targettest.Daemon{
		Spec: spec(t, "nats", map[string]any{
			"directory": directory, "config": config, "binary": binary, "pid_file": pidFile, "owner": "0", "listen": []string{"nats://" + address},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: "nats://" + address, Complaint: "no_such_field", Unname: toFirst,
		Break:  func() { must(t, os.WriteFile(config, append(good, "no_such_field: 1\n"...), 0o600)) },
		Repair: func() { must(t, os.WriteFile(config, good, 0o600)) },
	}
}

func TestNATS(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	must(t, err)
	binaries := t.TempDir()
	must(t, local.Build(t.Context(), root, binaries, local.NATSPackage))
	binary, err := exec.LookPath(local.NATSBinary(binaries))
	must(t, err)
	targettest.Run(t, func(t *testing.T) *targettest.Daemon {
		t.Helper()
		return startNATS(t, binary)
	})
}

func TestNATSSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"nothing that reloads":     `{"directory": "/srv/tls", "listen": []}`,
		"a relative configuration": `{"directory": "/srv/tls", "listen": [], "pid_file": "/run/nats.pid", "config": "nats.conf"}`,
		"an address of none":       `{"directory": "/srv/tls", "listen": ["nets://127.0.0.1:4222"], "pid_file": "/run/nats.pid"}`,
	} {
		if err := target.Validate("nats", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("nats", []byte(`{"directory": "/srv/tls", "listen": ["nats://127.0.0.1:4222"], "reload": ["/usr/bin/systemctl", "reload", "nats-server"]}`)))
}
