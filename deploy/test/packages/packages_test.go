//go:build engine

package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var names = []string{"certctl-server", "certctl-agent", "certctl-proxy", "certctl"}

// owned is how what the packages bring must be.
var owned = map[string]string{
	"/usr/bin/certctl-server": "755 root:root", "/usr/bin/certctl-agent": "755 root:root", "/usr/bin/certctl": "755 root:root",
	"/usr/bin/certctl-proxy": "755 root:root",
	"/etc/certctl":           "755 root:root", "/etc/certctl/live": "755 root:root",
	"/etc/certctl/server.yaml": "640 root:certctl", "/etc/certctl/agent.yaml": "600 root:root",
	"/etc/certctl/proxy.yaml": "640 root:certctl-proxy", "/var/lib/certctl-proxy": "700 certctl-proxy:certctl-proxy",
	"/usr/lib/systemd/system/certctl-proxy.service": "644 root:root",
	"/var/lib/certctl": "700 certctl:certctl", "/var/lib/certctl-agent": "700 root:root",
	"/usr/lib/systemd/system/certctl-server.service": "644 root:root", "/usr/lib/systemd/system/certctl-agent.service": "644 root:root",
}

// pack makes the packages of this machine's architecture.
func pack(t *testing.T, packager, version, into string, names ...string) {
	t.Helper()
	tool, err := filepath.Abs(filepath.Join(root, ".task", "nfpm"))
	must(t, err)
	for _, name := range names {
		cmd := exec.CommandContext(t.Context(), tool, "package", "-f", "deploy/packages/"+name+".yaml", "-p", packager, "-t", into)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "ARCH=amd64", "VERSION="+version, "SOURCE_DATE_EPOCH=1700000000")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// The life of the Debian packages on one machine: installed, changed, upgraded,
// removed, purged.
func TestDebianPackages(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	pack(t, "deb", "1.2.3", filepath.Join(m.dir, "tmp"), names...)
	m.run("sh", "-c", "dpkg -i /tmp/*_1.2.3*.deb")
	m.modes(owned)
	m.works()
	for _, unit := range []string{"certctl-server", "certctl-agent", "certctl-proxy"} {
		if state, _ := m.try("systemctl", "is-enabled", unit); state != "disabled" {
			t.Errorf("%s after the installation: %s", unit, state)
		}
		run(t, "systemd-analyze", "verify", "--man=no", "--root="+m.dir, unit+".service")
		m.run("systemctl", "enable", unit)
	}

	// The administrator's settings and state survive an upgrade.
	m.write("etc/certctl/agent.yaml", "server: https://certctl.example.com\n", 0o600)
	m.write("var/lib/certctl/kek-ca.key", "key\n", 0o600)
	m.write("var/lib/certctl-proxy/identity", "key\n", 0o600)
	pack(t, "deb", "1.3.0-rc.1", filepath.Join(m.dir, "tmp"), "certctl-agent")
	pack(t, "deb", "1.3.0", filepath.Join(m.dir, "tmp"), "certctl-agent")
	for _, version := range []string{"1.3.0~rc.1", "1.3.0"} { // a candidate is older than what it is one for
		m.run("dpkg", "--refuse-downgrade", "-i", "/tmp/certctl-agent_"+version+"_amd64.deb")
		if got := m.run("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", "certctl-agent"); got != "ii  "+version {
			t.Errorf("instead of %s: %s", version, got)
		}
		if got := m.run("cat", "/etc/certctl/agent.yaml"); !strings.Contains(got, "certctl.example.com") {
			t.Errorf("after the upgrade: %s", got)
		}
		m.modes(owned)
		if got := m.run("systemctl", "is-enabled", "certctl-agent"); got != "enabled" {
			t.Errorf("after the upgrade: %s", got)
		}
	}

	m.run("dpkg", append([]string{"--remove"}, names...)...)
	if !m.has("etc/certctl/server.yaml") || m.has("usr/bin/certctl-server") {
		t.Error("a removal keeps settings and takes programs away")
	}
	m.run("dpkg", append([]string{"--purge"}, names...)...)
	if left := m.units(); len(left) > 0 {
		t.Errorf("after the purge: %v", left)
	}
	if m.has("etc/certctl/server.yaml") || m.has("etc/certctl/agent.yaml") || m.has("etc/certctl/proxy.yaml") {
		t.Error("settings after the purge")
	}
	if !m.has("var/lib/certctl/kek-ca.key") || !m.has("var/lib/certctl-proxy/identity") {
		t.Error("the purge took keys along")
	}
}

// works runs the programs as they come out of the packages.
func (m *machine) works() {
	m.t.Helper()
	if out, code := m.try("runuser", "-u", "certctl", "--", "certctl-server", "config", "check", "--config", "/etc/certctl/server.yaml"); code != 2 || !strings.Contains(out, "CERTCTL_DATABASE_URL") {
		m.t.Errorf("a server without settings: exit code %d, %s", code, out)
	}
	if out, code := m.try("certctl-agent", "run"); code == 0 || !strings.Contains(out, "enroll") {
		m.t.Errorf("an agent without settings: exit code %d, %s", code, out)
	}
	m.run("certctl-agent", "policy", "check")
	if out, code := m.try("runuser", "-u", "certctl-proxy", "--", "certctl-proxy", "run"); code == 0 || !strings.Contains(out, "enroll") {
		m.t.Errorf("a proxy without settings: exit code %d, %s", code, out)
	}
	m.run("runuser", "-u", "certctl-proxy", "--", "certctl-proxy", "policy", "check")
	for _, program := range names { // none needs settings for that
		if out := m.run(program, "version"); !strings.HasPrefix(out, program+" ") {
			m.t.Errorf("%s: %s", program, out)
		}
	}
}

// The RPM packages say the same as the Debian ones, and rpm installs and erases
// them.
func TestRPMPackages(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	pack(t, "rpm", "1.2.3", filepath.Join(m.dir, "tmp"), names...)
	files, err := filepath.Glob(filepath.Join(m.dir, "tmp/*.rpm"))
	must(t, err)
	if len(files) != len(names) {
		t.Fatalf("made: %v", files)
	}
	ask := func(args ...string) string {
		return run(t, "rpm", append(append([]string{"-qp"}, args...), files...)...)
	}
	if got := ask("--qf", "%{NAME} %{VERSION} %{ARCH} %{LICENSE}\n"); strings.Count(got, " 1.2.3 x86_64 Apache-2.0\n") != len(names) {
		t.Error(got)
	}
	settings := ask("--configfiles")
	for _, file := range []string{"/etc/certctl/server.yaml", "/etc/certctl/agent.yaml", "/etc/certctl/proxy.yaml"} {
		if !strings.Contains(settings, file) {
			t.Errorf("%s is no configuration file: %s", file, settings)
		}
	}
	// Dependencies name packages of a distribution that this machine is not.
	rpm := []string{"--root", m.dir, "--nodeps"}
	run(t, "rpm", append(append(rpm, "-i"), files...)...)
	m.modes(owned)
	m.works()
	m.run("systemctl", "enable", "certctl-server", "certctl-agent", "certctl-proxy")

	// Settings, state and what is enabled survive an upgrade.
	const mine = "server: https://certctl.example.com"
	m.write("etc/certctl/agent.yaml", mine+"\n", 0o600)
	m.write("var/lib/certctl/kek-ca.key", "key\n", 0o600)
	next := t.TempDir()
	pack(t, "rpm", "1.3.0-rc.1", next, "certctl-agent")
	pack(t, "rpm", "1.3.0", next, "certctl-agent")
	for _, version := range []string{"1.3.0~rc.1", "1.3.0"} { // a candidate is older than what it is one for
		run(t, "rpm", append(rpm, "-U", filepath.Join(next, "certctl-agent-"+version+"-1.x86_64.rpm"))...)
		if got := m.run("cat", "/etc/certctl/agent.yaml"); got != mine {
			t.Errorf("after the upgrade to %s: %s", version, got)
		}
		if got := m.run("systemctl", "is-enabled", "certctl-agent"); got != "enabled" {
			t.Errorf("after the upgrade to %s: %s", version, got)
		}
		m.modes(owned)
	}
	run(t, "rpm", append(append(rpm, "-e"), names...)...)
	if left := m.units(); len(left) > 0 {
		t.Errorf("after the package was erased: %v", left)
	}
	if got := m.run("cat", "/etc/certctl/agent.yaml.rpmsave"); got != mine {
		t.Errorf("what is left of the settings: %s", got)
	}
	if !m.has("var/lib/certctl/kek-ca.key") {
		t.Error("a key-encryption key went with the package")
	}
}

// The packages of a release are of its version and commit, and two builds are the
// same.
func TestPackagesAreReproducible(t *testing.T) {
	t.Parallel()
	other, err := clone(filepath.Join(t.TempDir(), "elsewhere"))
	must(t, err)
	made := map[string]string{}
	for _, source := range []string{of(t, first), other} {
		made[source] = filepath.Join(t.TempDir(), "packages")
		if out, err := releaseOf(source, "packages", "--version", "1.2.3", "--program", "certctl-agent", "--target", "linux/amd64", "--out", made[source]).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	dir := made[other]
	run(t, "diff", "-r", made[of(t, first)], dir)
	run(t, "dpkg-deb", "-x", filepath.Join(dir, "certctl-agent_1.2.3_amd64.deb"), dir)
	if got := run(t, filepath.Join(dir, "usr/bin/certctl-agent"), "version"); !strings.HasPrefix(got, "certctl-agent 1.2.3 (commit "+commit(t, other)[:12]+",") {
		t.Error(got)
	}
	if got := run(t, "rpm", "-qp", "--qf", "%{VERSION}", filepath.Join(dir, "certctl-agent-1.2.3-1.x86_64.rpm")); got != "1.2.3" {
		t.Error(got)
	}
	if said, err := releaseOf(root, "--version", "1.2.4", "--key", "k", filepath.Join(dir, "certctl-agent_1.2.3_amd64.deb")).CombinedOutput(); err == nil || !strings.Contains(string(said), "is not of version 1.2.4") {
		t.Errorf("a package of another version: %v, %s", err, said)
	}
}
