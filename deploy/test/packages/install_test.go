//go:build engine

package packages

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const fingerprint = "AB:cdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"

// The installer installs a release, once and again, in a Debian of its own.
func TestInstallAgent(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.bring(of(t, older), "1.2.3")
	m.bring(of(t, newer), "1.2.4")
	m.write("root/token", "ctlj_secret\n", 0o644)
	install := []string{"--server", "https://certctl.example.com:8443", "--fingerprint", fingerprint, "--token-file", "/root/token"}

	m.install("1.2.3", install...)
	want := map[string]string{
		"/usr/local/bin/certctl-agent": "755 root:root", "/etc/systemd/system/certctl-agent.service": "644 root:root",
		"/etc/certctl": "755 root:root", "/etc/certctl/live": "755 root:root", "/etc/certctl/agent.yaml": "600 root:root",
		"/etc/certctl/join-token": "600 root:root", "/var/lib/certctl-agent": "700 root:root",
	}
	m.modes(want)
	settings := m.run("cat", "/etc/certctl/agent.yaml")
	if settings != "server: https://certctl.example.com:8443\nca_fingerprint: "+strings.ToLower(strings.ReplaceAll(fingerprint, ":", ""))+"\ntoken_file: /etc/certctl/join-token" {
		t.Error(settings)
	}
	if got := m.run("systemctl", "is-enabled", "certctl-agent"); got != "enabled" {
		t.Error(got)
	}
	run(t, "systemd-analyze", "verify", "--man=no", "--root="+m.dir, "certctl-agent.service")
	// The agent takes the settings: what it lacks is a network.
	if out, code := m.try("/usr/local/bin/certctl-agent", "run"); code == 0 || !strings.Contains(out, "certctl.example.com") {
		t.Errorf("exit code %d, %s", code, out)
	}

	// Again, nothing changes; another version comes with the same settings.
	before := m.state()
	m.install("1.2.3", install...)
	if after := m.state(); after != before {
		t.Errorf("installing again changed\n%s\nto\n%s", before, after)
	}
	m.install("1.2.4", install...)
	m.modes(want)
	m.runs("1.2.4")
	// What is there knows its server: to go back, or on, takes the release alone.
	must(t, os.Remove(filepath.Join(m.dir, "root/token")))
	m.install("1.2.3")
	m.modes(want)
	m.runs("1.2.3")
	if got := m.run("cat", "/etc/certctl/agent.yaml"); got != settings {
		t.Errorf("the settings after that: %s", got)
	}
	m.write("root/token", "ctlj_secret\n", 0o644)
	m.refuses("another server", "does not say", "1.2.4", "--server", "https://elsewhere:8443", "--fingerprint", fingerprint, "--token-file", "/root/token")
}

// runs holds the installed program against a version.
func (m *machine) runs(version string) {
	m.t.Helper()
	if got := m.run("/usr/local/bin/certctl-agent", "version"); !strings.HasPrefix(got, "certctl-agent "+version+" ") {
		m.t.Errorf("instead of %s: %s", version, got)
	}
}

// state is when what is installed was changed.
func (m *machine) state() string {
	return m.run("sh", "-c", "stat -c '%n %i %y' /usr/local/bin/* /etc/certctl/* /etc/systemd/system/certctl* /var/lib/certctl-agent")
}

// A user without privileges owns what the agent needs, and nothing else.
func TestInstallAgentAsUser(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.bring(of(t, older), "1.2.3")
	m.bring(of(t, newer), "1.2.4")
	m.write("root/token", "ctlj_secret\n", 0o644)
	for range 2 {
		m.install("1.2.3", "--server", "https://127.0.0.1:8443", "--fingerprint", fingerprint, "--token-file", "/root/token", "--user", "certctl-agent")
	}
	m.install("1.2.4") // who it runs as is known, too
	m.runs("1.2.4")
	m.refuses("another user", "belongs to certctl-agent", "1.2.3", "--user", "somebody")
	m.modes(map[string]string{
		"/etc/certctl/agent.yaml": "600 certctl-agent:root", "/etc/certctl/join-token": "600 certctl-agent:root",
		"/etc/certctl/live": "755 certctl-agent:root", "/var/lib/certctl-agent": "700 certctl-agent:root",
		"/usr/local/bin/certctl-agent": "755 root:root", "/etc/certctl": "755 root:root",
	})
	if got := m.run("cat", "/etc/systemd/system/certctl-agent.service.d/user.conf"); !strings.Contains(got, "User=certctl-agent\nCapabilityBoundingSet=") {
		t.Error(got)
	}
	run(t, "systemd-analyze", "verify", "--man=no", "--root="+m.dir, "certctl-agent.service")
	if out, code := m.try("runuser", "-u", "certctl-agent", "--", "/usr/local/bin/certctl-agent", "run"); code == 0 || !strings.Contains(out, "127.0.0.1:8443") {
		t.Errorf("exit code %d, %s", code, out)
	}
}

// A proxy is installed beside an agent, as a user of its own, and each is brought to
// another version by itself.
func TestInstallProxy(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.bring(of(t, older), "1.2.3")
	m.bring(of(t, newer), "1.2.4")
	m.write("root/token", "ctlj_secret\n", 0o644)
	install := []string{"--server", "https://127.0.0.1:8443", "--fingerprint", fingerprint, "--token-file", "/root/token"}
	m.refuses("a user for a proxy", "has a user of its own", "1.2.3", append([]string{"--proxy", "--user", "somebody"}, install...)...)
	for range 2 {
		m.install("1.2.3", append([]string{"--proxy"}, install...)...)
	}
	m.modes(map[string]string{
		"/usr/local/bin/certctl-proxy": "755 root:root", "/etc/systemd/system/certctl-proxy.service": "644 root:root", "/etc/certctl": "755 root:root",
		"/etc/certctl/proxy.yaml": "600 certctl-proxy:root", "/etc/certctl/proxy-join-token": "600 certctl-proxy:root", "/var/lib/certctl-proxy": "700 certctl-proxy:root",
	})
	if m.has("etc/certctl/live") || m.has("usr/local/bin/certctl-agent") || m.has("etc/certctl/agent.yaml") {
		t.Error("something of an agent was installed")
	}
	if got := m.run("systemctl", "is-enabled", "certctl-proxy"); got != "enabled" {
		t.Error(got)
	}
	run(t, "systemd-analyze", "verify", "--man=no", "--root="+m.dir, "certctl-proxy.service")
	if out, code := m.try("runuser", "-u", "certctl-proxy", "--", "/usr/local/bin/certctl-proxy", "run"); code == 0 || !strings.Contains(out, "127.0.0.1:8443") {
		t.Errorf("exit code %d, %s", code, out)
	}
	settings := m.run("cat", "/etc/certctl/proxy.yaml")
	m.install("1.2.3", install...) // the agent
	m.install("1.2.4", "--proxy")
	m.runs("1.2.3")
	if got := m.run("/usr/local/bin/certctl-proxy", "version"); !strings.HasPrefix(got, "certctl-proxy 1.2.4 ") {
		t.Errorf("instead of 1.2.4: %s", got)
	}
	if got := m.run("cat", "/etc/certctl/proxy.yaml"); got != settings {
		t.Errorf("the settings after that: %s", got)
	}
	m.write("usr/bin/certctl-proxy", "", 0o755)
	m.refuses("a package's proxy", "from a package", "1.2.4", "--proxy")
	m.pretend("Darwin", "arm64")
	m.refuses("a proxy on macOS", "--proxy is for Linux", "1.2.4", "--proxy")
}

// Whatever is missing or not as signed, nothing is installed.
func TestInstallAgentRefuses(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.bring(of(t, older), "1.2.3")
	m.write("root/token", "ctlj_secret\n", 0o600)
	m.write("root/empty", "", 0o600)
	good := map[string]string{"--server": "https://certctl.example.com:8443", "--fingerprint": fingerprint, "--token-file": "/root/token"}
	with := func(name, value string) []string {
		var args []string
		for flag, is := range good {
			if flag == name {
				is = value
			}
			if is != "" {
				args = append(args, flag, is)
			}
		}
		if name != "" && good[name] == "" {
			args = append(args, name, value)
		}
		return args
	}
	for _, c := range []struct{ name, value, want string }{
		{"--server", "", "--server must"}, {"--server", "http://certctl.example.com", "--server must"},
		{"--server", "https://a\npolicy: /tmp/x", "--server must"}, {"--fingerprint", "", "--fingerprint must"},
		{"--fingerprint", "abcd", "--fingerprint must"}, {"--token-file", "", "--token-file must"},
		{"--token-file", "/root/empty", "holds no join token"}, {"--version", "../1", "--version must"},
		{"--version", "9.9.9", "is not to be had"}, {"--signer", "me", "--signer must"}, {"--user", "a b", "no name of a user"},
		{"--url", "http://downloads.example.com", "not of the form https"},
		{"--signer", strings.Join(strings.Fields(run(t, "cat", key(t)+".pub"))[:2], " "), "signature"},
	} {
		m.refuses(c.name+" "+c.value, c.want, "1.2.3", with(c.name, c.value)...)
	}

	release := filepath.Join(m.dir, "root/1.2.3")
	archive := filepath.Join(release, "certctl-agent_1.2.3_linux_"+runtime.GOARCH+".tar.gz")
	sums := filepath.Join(release, "SHA256SUMS")
	for name, spoil := range map[string]struct{ file, want string }{
		"another archive": {archive, "another checksum"}, "other checksums": {sums, "signature"},
	} {
		kept, err := os.ReadFile(spoil.file)
		must(t, err)
		must(t, os.WriteFile(spoil.file, append(kept[:len(kept):len(kept)], 'x'), 0o600))
		m.refuses(name, spoil.want, "1.2.3", with("", "")...)
		must(t, os.WriteFile(spoil.file, kept, 0o600))
	}
	// A release that the right key signed, and that does not hold what it says.
	named := func(version string) string { return strings.Replace(archive, "1.2.3_linux", version+"_linux", 1) }
	run(t, "cp", archive, named("1.2.4"))
	sign(t, release, of(t, signing))
	m.refuses("an older program under a new name", "instead of its version", "1.2.3", with("--version", "1.2.4")...)
	run(t, "cp", archive, named("1.2.5"))
	m.refuses("an archive that is not signed for", "do not name", "1.2.3", with("--version", "1.2.5")...)
	must(t, os.Remove(sums+".sig"))
	m.refuses("no signature", "not to be had", "1.2.3", with("", "")...)
}

func TestInstallAgentIsClean(t *testing.T) {
	t.Parallel()
	run(t, "shellcheck", filepath.Join(root, "deploy/install-agent.sh"))
	run(t, "sh", "-c", "shellcheck "+filepath.Join(root, "deploy/packages/*.sh"))
}

// bring puts a release into the machine.
func (m *machine) bring(release, version string) {
	m.t.Helper()
	run(m.t, "cp", "-a", release, filepath.Join(m.dir, "root", version))
}

func (m *machine) install(version string, args ...string) {
	m.t.Helper()
	m.run("/root/"+version+"/install-agent.sh", append(args, "--from", "/root/"+version)...)
}

// refuses tries an installation that must fail and leave nothing.
func (m *machine) refuses(name, want, version string, args ...string) {
	m.t.Helper()
	had := m.has("usr/local/bin/certctl-agent")
	out, code := m.try("/root/"+version+"/install-agent.sh", append(args, "--from", "/root/"+version)...)
	if code == 0 || !strings.Contains(out, want) {
		m.t.Errorf("%s: exit code %d, %s", name, code, out)
	}
	if !had && (m.has("usr/local/bin/certctl-agent") || m.has("etc/certctl") || len(m.units()) > 0) {
		m.t.Errorf("%s: something was installed", name)
	}
}
