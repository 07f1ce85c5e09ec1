//go:build daemons

package target_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// startMosquitto starts a real Mosquitto with a certificate of its own. It
// takes the names of the files from its configuration once.
func startMosquitto(t *testing.T) *targettest.Daemon {
	t.Helper()
	port, err := local.FreePort()
	must(t, err)
	dir, first, directory := ownedHome(t, "mosquitto")
	mosquitto := &local.Mosquitto{Dir: filepath.Join(dir, "mosquitto"), Listen: local.Loopback(port)}
	must(t, os.Mkdir(mosquitto.Dir, 0o700))
	link, toPlace, _ := named(t, dir, first, directory)
	mosquitto.Config = fmt.Sprintf("certfile %s/fullchain.pem\nkeyfile %s/privkey.pem\n", link, link)
	must(t, mosquitto.Start(t.Context()))
	t.Cleanup(mosquitto.Kill)
	toPlace()
	return &targettest.Daemon{
		Spec: spec(t, "mosquitto", map[string]any{
			"directory": directory, "pid_file": mosquitto.PIDFile(), "listen": []string{mosquitto.Listen},
		}),
		// What it cannot read it does not load, and there is no complaint of its own.
		Directory: directory, Policy: anything{}, Single: true, Address: mosquitto.Listen,
		Break: hide(t, directory), Repair: show(t, directory),
	}
}

func TestMosquitto(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startMosquitto)
}

func TestMosquittoSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"a relative pid file": `{"directory": "/srv/tls", "listen": [], "pid_file": "mosquitto.pid"}`,
		"an open key":         `{"directory": "/srv/tls", "listen": [], "key_mode": "0644"}`,
	} {
		if err := target.Validate("mosquitto", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("mosquitto", []byte(`{"directory": "/srv/tls", "listen": ["127.0.0.1:8883"]}`)))
}
