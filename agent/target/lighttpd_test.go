//go:build daemons

package target_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// startLighttpd starts a real lighttpd with a certificate of its own. Its
// configuration names the place's files from then on.
func startLighttpd(t *testing.T) *targettest.Daemon {
	t.Helper()
	binary, err := local.FindLighttpd()
	must(t, err)
	port, err := local.FreePort()
	must(t, err)
	lighttpd := &local.Lighttpd{Dir: t.TempDir(), Listen: local.Loopback(port)}
	first, directory := filepath.Join(lighttpd.Dir, "first"), filepath.Join(lighttpd.Dir, "tls")
	must(t, os.Mkdir(first, 0o700))
	targettest.WritePair(t, filepath.Join(first, "fullchain.pem"), filepath.Join(first, "privkey.pem"), "lighttpd.example.com")
	lighttpd.Config = fmt.Sprintf("ssl.pemfile = \"%s/fullchain.pem\"\nssl.privkey = \"%s/privkey.pem\"\n", first, first)
	must(t, lighttpd.Start(t.Context()))
	t.Cleanup(lighttpd.Kill)
	good, err := os.ReadFile(lighttpd.ConfigFile())
	must(t, err)
	good = bytes.ReplaceAll(good, []byte(first), []byte(filepath.Join(directory, "shop", "current")))
	must(t, os.WriteFile(lighttpd.ConfigFile(), good, 0o600))
	return &targettest.Daemon{
		Spec: spec(t, "lighttpd", map[string]any{
			"directory": directory, "config": lighttpd.ConfigFile(), "binary": binary, "pid_file": lighttpd.PIDFile(), "listen": []string{lighttpd.Listen},
		}),
		Directory: directory, Policy: anything{}, Single: true, Restarts: true, Address: lighttpd.Listen, Complaint: "no-such-module",
		Break: func() {
			must(t, os.WriteFile(lighttpd.ConfigFile(), append(bytes.Clone(good), "server.modules += (\"no-such-module\")\n"...), 0o600))
		},
		Unname: func() {
			must(t, os.WriteFile(lighttpd.ConfigFile(), bytes.ReplaceAll(good, []byte(filepath.Join(directory, "shop", "current")), []byte(first)), 0o600))
		},
		Repair: func() { must(t, os.WriteFile(lighttpd.ConfigFile(), good, 0o600)) },
	}
}

func TestLighttpd(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startLighttpd)
}
