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

// startPostfix starts a real Postfix with a certificate of its own. Its
// configuration names the place's files from then on.
func startPostfix(t *testing.T) *targettest.Daemon {
	t.Helper()
	postmap, err := local.FindPostmap()
	must(t, err)
	program, err := local.FindPostfix()
	must(t, err)
	port, err := local.FreePort()
	must(t, err)
	dir, err := os.MkdirTemp("", "certctl-postfix-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755)) // its users pass through
	postfix := &local.Postfix{Dir: dir, Listen: local.Loopback(port)}
	first, directory := filepath.Join(dir, "first"), filepath.Join(dir, "tls")
	must(t, os.Mkdir(first, 0o700))
	targettest.WritePair(t, filepath.Join(first, "fullchain.pem"), filepath.Join(first, "privkey.pem"), "postfix.example.com")
	postfix.Config = fmt.Sprintf("smtpd_tls_chain_files = %s/privkey.pem, %s/fullchain.pem\n", first, first)
	must(t, postfix.Start(t.Context()))
	t.Cleanup(postfix.Kill)
	good, err := os.ReadFile(postfix.ConfigFile())
	must(t, err)
	good = bytes.ReplaceAll(good, []byte(first), []byte(filepath.Join(directory, "shop", "current")))
	must(t, os.WriteFile(postfix.ConfigFile(), good, 0o644)) //nolint:gosec // its users read it
	// Its servers read the configuration with each connection, so that a broken one
	// would break what runs: the check is what refuses here.
	sbin, refuse := filepath.Join(dir, "sbin"), filepath.Join(dir, "refuse")
	must(t, os.Mkdir(sbin, 0o755))
	must(t, os.Symlink(program, filepath.Join(sbin, "postfix")))
	check := fmt.Sprintf("#!/bin/sh\n[ ! -e %s ] || { echo 'line 3: no such thing' >&2; exit 1; }\nexec %s \"$@\"\n", refuse, postmap)
	must(t, os.WriteFile(filepath.Join(sbin, "postmap"), []byte(check), 0o755)) //nolint:gosec // a program
	return &targettest.Daemon{
		Spec: spec(t, "postfix", map[string]any{
			"directory": directory, "config": postfix.ConfigFile(), "binary": filepath.Join(sbin, "postmap"), "listen": []string{"smtp://" + postfix.Listen},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: "smtp://" + postfix.Listen, Complaint: "no such thing",
		Break:  func() { must(t, os.WriteFile(refuse, nil, 0o600)) },
		Repair: func() { must(t, os.Remove(refuse)) },
	}
}

func TestPostfix(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startPostfix)
}

func TestPostfixSettings(t *testing.T) {
	t.Parallel()
	if err := target.Validate("postfix", []byte(`{"directory": "/srv/tls", "listen": ["smtp://127.0.0.1"]}`)); certctl.ErrorCode(err) != certctl.Invalid {
		t.Error(err)
	}
	must(t, target.Validate("postfix", []byte(`{"directory": "/srv/tls", "listen": ["smtp://127.0.0.1:25", "127.0.0.1:465"]}`)))
}
