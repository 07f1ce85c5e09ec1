//go:build daemons

package target_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// startPostgreSQL starts a real PostgreSQL with a certificate of its own. Its
// configuration names the place's files from then on; it reads them with the first
// reload.
func startPostgreSQL(t *testing.T) *targettest.Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "certctl-postgresql-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o711)) // its user passes through
	port, err := local.FreePort()
	must(t, err)
	postgres := &local.Postgres{Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{
		"listen_addresses": "127.0.0.1", "port": strconv.Itoa(port),
	}}
	must(t, postgres.Start(t.Context()))
	t.Cleanup(postgres.Kill)
	directory, auto := filepath.Join(dir, "tls"), filepath.Join(postgres.DataDir(), "postgresql.auto.conf")
	configure := func(folder string) {
		must(t, os.WriteFile(auto, fmt.Appendf(nil, "ssl = on\nssl_cert_file = '%s/fullchain.pem'\nssl_key_file = '%s/privkey.pem'\n", folder, folder), 0o600))
		must(t, postgres.Own(auto))
	}
	first := filepath.Join(dir, "first")
	must(t, os.Mkdir(first, 0o711))
	targettest.WritePair(t, filepath.Join(first, "fullchain.pem"), filepath.Join(first, "privkey.pem"), "postgres.example.com")
	must(t, postgres.Own(filepath.Join(first, "fullchain.pem")))
	must(t, postgres.Own(filepath.Join(first, "privkey.pem")))
	configure(first)
	must(t, postgres.Reload())
	address := "postgres://" + local.Loopback(port)
	for err := context.Canceled; err != nil; { // until it has read what is changed below
		must(t, t.Context().Err())
		_, err = probe.TLS(t.Context(), address, "")
	}
	configure(filepath.Join(directory, "shop", "current"))
	must(t, os.Mkdir(directory, 0o755))
	return &targettest.Daemon{
		Spec: spec(t, "postgresql", map[string]any{
			"directory": directory, "pid_file": filepath.Join(postgres.DataDir(), "postmaster.pid"), "listen": []string{"postgres://" + local.Loopback(port)},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: address,
		// What it cannot read it does not load, and goes on with what it has: the
		// probe sees that, and there is no complaint of its own.
		Break:  func() { must(t, os.Chmod(directory, 0o700)) },
		Repair: func() { must(t, os.Chmod(directory, 0o755)) }, //nolint:gosec // the keys in it are nobody else's
	}
}

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startPostgreSQL)
}

func TestPostgreSQLSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"no way to reload":        `{"directory": "/srv/tls", "listen": []}`,
		"an unknown protocol":     `{"directory": "/srv/tls", "listen": ["tftp://127.0.0.1:5432"], "pid_file": "/srv/postmaster.pid"}`,
		"a key that others read":  `{"directory": "/srv/tls", "listen": [], "pid_file": "/srv/postmaster.pid", "key_mode": "0644"}`,
		"a setting of another":    `{"directory": "/srv/tls", "listen": [], "pid_file": "/srv/postmaster.pid", "config": "/etc/x"}`,
		"a directory without end": `{"directory": "srv/tls", "listen": [], "pid_file": "/srv/postmaster.pid"}`,
	} {
		if err := target.Validate("postgresql", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("postgresql", []byte(`{"directory": "/srv/tls", "listen": ["postgres://127.0.0.1:5432"], "pid_file": "/srv/postmaster.pid", "group": "ssl-cert", "key_mode": "0640"}`)))
}
