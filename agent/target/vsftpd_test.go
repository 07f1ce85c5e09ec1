//go:build daemons

package target_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// startVsftpd starts a real vsftpd with a certificate of its own. It reads its files
// when it starts, so that it has no kind: plain files, and a command that starts it
// anew, are all that it needs.
func startVsftpd(t *testing.T) *targettest.Daemon {
	t.Helper()
	port, err := local.FreePort()
	must(t, err)
	dir, first, directory := ownedHome(t, "root")
	names := func(folder string) string {
		return fmt.Sprintf("rsa_cert_file=%s/fullchain.pem\nrsa_private_key_file=%s/privkey.pem\n", folder, folder)
	}
	vsftpd := &local.Vsftpd{Dir: filepath.Join(dir, "vsftpd"), Listen: local.Loopback(port), Config: names(first)}
	must(t, vsftpd.Start(t.Context()))
	t.Cleanup(func() { vsftpd.Kill() })
	current, mark, check := filepath.Join(directory, "shop", "current"), filepath.Join(dir, "broken"), filepath.Join(dir, "check")
	must(t, os.WriteFile(check, []byte("#!/bin/sh\n[ ! -e '"+mark+"' ] || { echo 'it is broken' >&2; exit 1; }\n"), 0o700)) //nolint:gosec // a program
	restart := asked(t, dir, func() error {
		vsftpd.Kill()
		vsftpd.Config = names(first)
		if _, err := os.Stat(current); err == nil {
			vsftpd.Config = names(current)
		}
		return vsftpd.Start(t.Context())
	})
	return &targettest.Daemon{
		Spec: spec(t, "files", map[string]any{
			"directory": directory, "check_command": []string{check}, "reload_command": restart, "listen": []string{"ftp://" + vsftpd.Listen},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: "ftp://" + vsftpd.Listen, Complaint: "it is broken",
		Break:  func() { must(t, os.WriteFile(mark, nil, 0o600)) },
		Repair: func() { must(t, os.Remove(mark)) },
	}
}

func TestFilesOfVsftpd(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startVsftpd)
}
