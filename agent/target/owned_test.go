//go:build daemons

package target_test

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/certctl/certctl/agent/target/targettest"
)

// ownedHome is a folder for a daemon with a user of its own, who passes through to
// it, with a certificate and key of his in "first" and an empty "tls".
func ownedHome(t *testing.T, owner string) (dir, first, directory string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "certctl-"+owner+"-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o711))
	first, directory = filepath.Join(dir, "first"), filepath.Join(dir, "tls")
	must(t, os.Mkdir(first, 0o711))
	must(t, os.Mkdir(directory, 0o755))
	targettest.WritePair(t, filepath.Join(first, "fullchain.pem"), filepath.Join(first, "privkey.pem"), owner+".example.com")
	own(t, owner, filepath.Join(first, "fullchain.pem"), filepath.Join(first, "privkey.pem"))
	return dir, first, directory
}

func own(t *testing.T, owner string, paths ...string) {
	t.Helper()
	account, err := user.Lookup(owner)
	must(t, err)
	uid, err := strconv.Atoi(account.Uid)
	must(t, err)
	gid, err := strconv.Atoi(account.Gid)
	must(t, err)
	for _, path := range paths {
		must(t, os.Chown(path, uid, gid))
	}
}

// hide keeps a daemon that is not root from what is in its directory.
func hide(t *testing.T, directory string) func() {
	t.Helper()
	return func() { must(t, os.Chmod(directory, 0o700)) }
}

func show(t *testing.T, directory string) func() {
	t.Helper()
	return func() { must(t, os.Chmod(directory, 0o755)) } //nolint:gosec // the keys in it are nobody else's
}

// named is a link for configurations that a daemon reads once: it leads to the
// first certificate, and to the place's files after a call of the function.
func named(t *testing.T, dir, first, directory string) (link string, toPlace, toFirst func()) {
	t.Helper()
	link = filepath.Join(dir, "named")
	must(t, os.Symlink(first, link))
	lead := func(to string) func() {
		return func() {
			must(t, os.Remove(link))
			must(t, os.Symlink(to, link))
		}
	}
	return link, lead(filepath.Join(directory, "shop", "current")), lead(first)
}
