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

// startDovecot starts a real Dovecot with a certificate of its own. Its
// configuration names the place's files from then on.
func startDovecot(t *testing.T) *targettest.Daemon {
	t.Helper()
	doveconf, err := local.FindDoveconf()
	must(t, err)
	port, err := local.FreePort()
	must(t, err)
	dovecot := &local.Dovecot{Dir: t.TempDir(), Listen: local.Loopback(port)}
	first, directory := filepath.Join(dovecot.Dir, "first"), filepath.Join(dovecot.Dir, "tls")
	must(t, os.Mkdir(first, 0o700))
	targettest.WritePair(t, filepath.Join(first, "fullchain.pem"), filepath.Join(first, "privkey.pem"), "dovecot.example.com")
	tls := func(folder string) string {
		return fmt.Sprintf("ssl = yes\nssl_cert = <%s/fullchain.pem\nssl_key = <%s/privkey.pem\n", folder, folder)
	}
	dovecot.Config = tls(first)
	must(t, dovecot.Start(t.Context()))
	t.Cleanup(dovecot.Kill)
	good, err := os.ReadFile(dovecot.ConfigFile())
	must(t, err)
	good = bytes.ReplaceAll(good, []byte(first), []byte(filepath.Join(directory, "shop", "current")))
	must(t, os.WriteFile(dovecot.ConfigFile(), good, 0o600))
	return &targettest.Daemon{
		Spec: spec(t, "dovecot", map[string]any{
			"directory": directory, "config": dovecot.ConfigFile(), "binary": doveconf, "pid_file": dovecot.PIDFile(),
			"listen": []string{"imap://" + dovecot.Listen},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: "imap://" + dovecot.Listen, Complaint: "no_such_setting",
		Break:  func() { must(t, os.WriteFile(dovecot.ConfigFile(), append(good, "no_such_setting = x\n"...), 0o600)) },
		Repair: func() { must(t, os.WriteFile(dovecot.ConfigFile(), good, 0o600)) },
	}
}

func TestDovecot(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startDovecot)
}

func TestDovecotSettings(t *testing.T) {
	t.Parallel()
	if err := target.Validate("dovecot", []byte(`{"directory": "tls", "listen": []}`)); certctl.ErrorCode(err) != certctl.Invalid {
		t.Error(err)
	}
	must(t, target.Validate("dovecot", []byte(`{"directory": "/srv/tls", "listen": ["imap://127.0.0.1:143", "127.0.0.1:993", "pop3://127.0.0.1:110"]}`)))
}
