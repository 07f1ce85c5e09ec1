//go:build engine

package packages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// scratch is the folder of what tests share: releases take long to make.
var scratch string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "certctl-packages-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	scratch = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // a folder in the system's temporary one
	os.Exit(code)
}

// signing is the key that the releases of the tests are signed with.
var signing = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "key")
	return path, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "somebody", "-f", path).Run()
})

// first is a clone of what is here.
var first = sync.OnceValues(func() (string, error) { return clone(filepath.Join(scratch, "first")) })

// older and newer are small releases of it.
var (
	older = sync.OnceValues(func() (string, error) { return shared("1.2.3") })
	newer = sync.OnceValues(func() (string, error) { return shared("1.2.4") })
)

// clone copies what is here, committed or not, into a folder of its own, as one
// commit that is the same whenever and wherever it is made.
func clone(dir string) (string, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	const script = `cd "$0" && git ls-files -z -co --exclude-standard --deduplicate | xargs -0 ls -d 2>/dev/null | tar -T - -c | tar -C "$1" -x
cd "$1" && git init -q && git add -A && git commit -q --no-verify --no-gpg-sign -m release
mkdir .task && ln -s "$2" .task/nfpm`
	nfpm, err := filepath.Abs(filepath.Join(root, ".task", "nfpm"))
	if err != nil {
		return "", err
	}
	cmd := exec.Command("sh", "-ec", script, root, dir, nfpm)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=1700000000 +0000",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_COMMITTER_DATE=1700000000 +0000")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
}

func shared(version string) (string, error) {
	source, err := first()
	if err != nil {
		return "", err
	}
	key, err := signing()
	if err != nil {
		return "", err
	}
	out := filepath.Join(scratch, version)
	if said, err := releaseOf(source, "--version", version, "--key", key, "--out", out, "--target", "linux/"+runtime.GOARCH, "--program", "certctl-agent,certctl-proxy", "LICENSE").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, said)
	}
	return out, nil
}

// releaseOf is the command that makes one.
func releaseOf(source string, args ...string) *exec.Cmd {
	cmd := exec.Command("go", append([]string{"run", "./deploy/release"}, args...)...)
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}

// of returns what is made once.
func of(t *testing.T, made func() (string, error)) string {
	t.Helper()
	path, err := made()
	must(t, err)
	return path
}

// copyOf is a release that a test may spoil.
func copyOf(t *testing.T, made func() (string, error)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "release")
	run(t, "cp", "-a", of(t, made), dir)
	return dir
}

// commit is that of a clone.
func commit(t *testing.T, source string) string {
	t.Helper()
	return strings.TrimSpace(run(t, "git", "-C", source, "rev-parse", "HEAD"))
}

// key makes one that nobody trusts.
func key(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
	return path
}

// sign signs a release's checksums again, as they are now.
func sign(t *testing.T, dir, key string) {
	t.Helper()
	run(t, "sh", "-ec", `cd "$0" && rm -f SHA256SUMS SHA256SUMS.sig && sha256sum *.* LICENSE >SHA256SUMS`, dir)
	run(t, "ssh-keygen", "-Y", "sign", "-q", "-f", key, "-n", "certctl-release", filepath.Join(dir, "SHA256SUMS"))
}
