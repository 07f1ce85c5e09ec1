//go:build engine

package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

// exposure is the most that systemd's own measure (0 to 100) may say of a unit.
// The agent's is what its comments argue for.
var exposure = map[string]string{"certctl-server": "20", "certctl-agent": "40", "certctl-proxy": "20"}

// systemd finds nothing to complain about, and the locks stay on.
func TestUnits(t *testing.T) {
	t.Parallel()
	units := unitRoot(t)
	for unit, most := range exposure {
		t.Run(unit, func(t *testing.T) {
			t.Parallel()
			if out := run(t, "systemd-analyze", "verify", "--man=no", "--root="+units, unit+".service"); strings.Contains(out, unit) {
				t.Error(out)
			}
			run(t, "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+most, "--root="+units, unit+".service")
		})
	}
}

// What the proxy's targets do on its own node: a socket for a group, below a folder
// that is there, and generations below its state. systemd's own lists say which calls
// there are; the last word on one counts.
func TestProxyUnitAllowsItsSockets(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "deploy/systemd/certctl-proxy.service"))
	must(t, err)
	var filters []string
	for line := range strings.Lines(string(text)) {
		if filter, is := strings.CutPrefix(strings.TrimSpace(line), "SystemCallFilter="); is {
			filters = append(filters, filter)
		}
	}
	if !strings.Contains(run(t, "systemd-analyze", "syscall-filter", "@privileged"), "@chown") {
		t.Error("@privileged does not take chown away: this test is about nothing")
	}
	if len(filters) == 0 || filters[len(filters)-1] != "@chown" {
		t.Errorf("a socket cannot be given to a group: the filters are %q", filters)
	}
	for _, line := range []string{"RuntimeDirectory=certctl-proxy", "RuntimeDirectoryMode=0755", "StateDirectory=certctl-proxy"} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("the unit does not say %s", line)
		}
	}
}

// A fault in a unit is seen: this test would notice.
func TestUnitsThatAreWrong(t *testing.T) {
	t.Parallel()
	units := unitRoot(t)
	for name, change := range map[string][2]string{
		"misspelt":   {"ProtectSystem=strict", "ProtectSytem=strict"},
		"no program": {"/usr/bin/certctl-server", "/usr/bin/certctl-sever"},
	} {
		text, err := os.ReadFile(filepath.Join(root, "deploy/systemd/certctl-server.service"))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(units, "usr/lib/systemd/system/wrong.service"), []byte(strings.Replace(string(text), change[0], change[1], 1)), 0o600))
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--root="+units, "wrong.service").CombinedOutput()
		if err == nil && !strings.Contains(string(out), "wrong.service") {
			t.Errorf("%s: systemd says nothing: %s", name, out)
		}
	}
}

// unitRoot is a root with our units, systemd's own, and programs at the paths that
// ours name.
func unitRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "usr/lib"), 0o750))
	must(t, os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o750))
	run(t, "cp", "-a", "/usr/lib/systemd", filepath.Join(dir, "usr/lib/"))
	for unit := range exposure {
		run(t, "cp", filepath.Join(root, "deploy/systemd", unit+".service"), filepath.Join(dir, "usr/lib/systemd/system/"))
		run(t, "cp", "/bin/true", filepath.Join(dir, "usr/bin", unit))
	}
	return dir
}

// run returns what a command says, which must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	// A program would wonder about settings of the tests.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "CERTCTL_") })
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
