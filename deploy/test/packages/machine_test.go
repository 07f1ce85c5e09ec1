//go:build engine

package packages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// machine is the root of a Debian with systemd, which does not run.
type machine struct {
	t   *testing.T
	dir string
}

// contents are the packages that a machine has beyond the least.
const contents = "systemd,passwd,openssh-client,curl,wget"

// newMachine unpacks one; the archive is kept for later runs, since making it takes
// a minute or two.
func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests install packages in a root folder of their own, which takes root")
	}
	archive, err := archived()
	must(t, err)
	m := &machine{t: t, dir: t.TempDir()}
	must(t, os.Chmod(m.dir, 0o755)) // users of the machine go through it
	run(t, "tar", "-C", m.dir, "--exclude=./dev/*", "-xf", archive)
	for _, device := range []string{"null", "urandom"} {
		run(t, "cp", "-a", "/dev/"+device, filepath.Join(m.dir, "dev"))
	}
	return m
}

// archived makes the archive, once: most of what is documentation is left out.
var archived = sync.OnceValues(func() (string, error) {
	archive, err := filepath.Abs(filepath.Join(root, ".task", "machine-"+contents+".tar"))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	made := strings.TrimSuffix(archive, ".tar") + ".new.tar"
	cmd := exec.Command("mmdebstrap", "--quiet", "--variant=minbase", "--include="+contents,
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "bookworm", made)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return archive, os.Rename(made, archive)
})

// run returns what a command says in the machine, where it must succeed.
func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	out, code := m.try(name, args...)
	if code != 0 {
		m.t.Fatalf("%s %s: exit code %d\n%s", name, strings.Join(args, " "), code, out)
	}
	return out
}

func (m *machine) try(name string, args ...string) (out string, code int) {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "chroot", append([]string{m.dir, name}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		m.t.Fatal(err)
	}
	return strings.TrimSpace(string(text)), cmd.ProcessState.ExitCode()
}

// has reports whether the machine has the path, whatever it is.
func (m *machine) has(path string) bool {
	_, err := os.Lstat(filepath.Join(m.dir, path))
	return err == nil
}

// modes holds files against what stat says of them.
func (m *machine) modes(want map[string]string) {
	m.t.Helper()
	for path, mode := range want {
		if got := m.run("stat", "-c", "%a %U:%G", path); got != mode {
			m.t.Errorf("%s: %s, want %s", path, got, mode)
		}
	}
}

// write puts a file into the machine.
func (m *machine) write(path, content string, mode os.FileMode) {
	m.t.Helper()
	must(m.t, os.WriteFile(filepath.Join(m.dir, path), []byte(content), mode))
}

// units are what of ours systemd would find.
func (m *machine) units() []string {
	m.t.Helper()
	var found []string
	for _, folder := range []string{"etc/systemd", "usr/lib/systemd", "usr/local/lib/systemd", "lib/systemd"} {
		list, _ := exec.CommandContext(m.t.Context(), "find", filepath.Join(m.dir, folder), "-name", "*certctl*").Output()
		found = append(found, strings.Fields(string(list))...)
	}
	return found
}
