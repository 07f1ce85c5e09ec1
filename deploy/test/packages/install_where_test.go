//go:build engine

package packages

import (
	"crypto/tls"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// downloads serves the newer release over https, with a certificate that the machine
// can be told to trust.
func downloads(t *testing.T, m *machine) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.StripPrefix("/v1.2.4/", http.FileServer(http.Dir(of(t, newer)))))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that trust nobody hang up
	server.StartTLS()
	t.Cleanup(server.Close)
	m.write("root/ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})), 0o644)
	return server.URL
}

// The installer downloads a release with curl, or with wget where there is no
// curl, and believes no server whose certificate nobody vouches for.
func TestInstallAgentDownloads(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("root/token", "ctlj_secret\n", 0o600)
	run(t, "cp", filepath.Join(of(t, newer), "install-agent.sh"), filepath.Join(m.dir, "root"))
	url := downloads(t, m)
	script := "/root/install-agent.sh --url " + url + " "
	first := script + "--server https://certctl.example.com:8443 --fingerprint " + fingerprint + " --token-file /root/token"
	vouched := map[string]string{"curl": "CURL_CA_BUNDLE=/root/ca.pem ", "wget": "WGETRC=/root/wgetrc "}
	m.write("root/wgetrc", "ca_certificate = /root/ca.pem\n", 0o600)
	for _, tool := range []string{"curl", "wget"} {
		if out, code := m.try("sh", "-c", first); code == 0 || !strings.Contains(out, "is not to be had") || m.has("usr/local/bin/certctl-agent") {
			t.Errorf("%s took an unknown certificate: exit code %d, %s", tool, code, out)
		}
		if out, code := m.try("sh", "-c", vouched[tool]+first+" --version 9.9.9"); code == 0 || !strings.Contains(out, "SHA256SUMS of release 9.9.9 is not to be had") {
			t.Errorf("%s, a release that is not there: exit code %d, %s", tool, code, out)
		}
		m.run("sh", "-c", vouched[tool]+first)
		m.runs("1.2.4")
		must(t, os.Remove(filepath.Join(m.dir, "usr/local/bin/certctl-agent")))
		m.run("sh", "-c", vouched[tool]+script)
		m.runs("1.2.4")
		m.run("rm", "/usr/bin/"+tool, "/usr/local/bin/certctl-agent")
	}
	if out, code := m.try("sh", "-c", first); code == 0 || !strings.Contains(out, "curl or wget is needed") {
		t.Errorf("neither: exit code %d, %s", code, out)
	}
}

// The machine says that it is something else.
func (m *machine) pretend(system, hardware string) {
	m.t.Helper()
	m.write("usr/sbin/uname", "#!/bin/sh\ncase $1 in -s) echo "+system+" ;; -m) echo "+hardware+" ;; esac\n", 0o755)
}

func TestInstallAgentElsewhere(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.bring(of(t, older), "1.2.3")
	m.write("root/token", "ctlj_secret\n", 0o600)
	install := []string{"--server", "https://certctl.example.com:8443", "--fingerprint", fingerprint, "--token-file", "/root/token"}
	m.pretend("OpenBSD", "amd64")
	m.refuses("another system", "no installation for OpenBSD", "1.2.3", install...)
	m.pretend("Linux", "riscv64")
	m.refuses("another processor", "no release for riscv64", "1.2.3", install...)
	must(t, os.Remove(filepath.Join(m.dir, "usr/sbin/uname")))
	m.write("usr/bin/certctl-agent", "", 0o755)
	m.refuses("a package's agent", "from a package", "1.2.3", install...)
	must(t, os.Remove(filepath.Join(m.dir, "usr/bin/certctl-agent")))

	// Who may write to the folders could replace the agent, on every system: on macOS
	// they often are those of a user.
	for _, system := range []string{"Linux", "Darwin"} {
		m.pretend(system, "amd64")
		for _, dir := range []string{"/usr/local", "/usr/local/bin"} {
			m.run("chown", "1000", dir)
			m.refuses(dir+" of a user, "+system, dir+" does not belong to root", "1.2.3", install...)
			m.run("chown", "root", dir)
			for _, who := range []string{"g+w", "o+w", "g+ws", "o+wt"} {
				m.run("chmod", who, dir)
				m.refuses(dir+" "+who+", "+system, dir+" may be written to by others", "1.2.3", install...)
				m.run("chmod", "755", dir)
				m.run("chmod", "g-s,o-t", dir)
			}
		}
	}
	must(t, os.Remove(filepath.Join(m.dir, "usr/sbin/uname")))

	// Without systemd somebody else must start the agent, and is told so.
	m.run("sh", "-c", "rm -f /bin/systemctl /usr/bin/systemctl")
	if out := m.run("/root/1.2.3/install-agent.sh", append(install, "--from", "/root/1.2.3")...); !strings.Contains(out, "no systemd here: have your init system run /usr/local/bin/certctl-agent run as root") {
		t.Error(out)
	}
	m.runs("1.2.3")
	if m.has("etc/systemd/system/certctl-agent.service") {
		t.Error("a unit where there is no systemd")
	}
}

// launchctl notes what it is told. The agent that is told to end does so only when
// it was looked for twice.
const launchctl = `#!/bin/sh
[ "$1" = print ] || echo "$*" >>/root/launchctl
case $1 in
bootstrap) [ ! -e /root/loaded ] && echo 9999 >/root/loaded ;;
bootout) echo 2 >/root/loaded ;;
print)
	[ -e /root/loaded ] || exit 113
	left=$(($(cat /root/loaded) - 1))
	echo "$left" >/root/loaded
	[ "$left" -gt 0 ] || { rm /root/loaded && exit 113; }
	;;
esac
`

// The part for macOS, as far as that goes without one: a Linux that says it is
// macOS, and a launchctl that only takes notes.
func TestInstallAgentOnMacOS(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.pretend("Darwin", "arm64")
	m.write("usr/sbin/launchctl", launchctl, 0o755)
	m.write("root/token", "ctlj_secret\n", 0o600)
	must(t, os.MkdirAll(filepath.Join(m.dir, "Library/LaunchDaemons"), 0o755)) //nolint:gosec // as it is on macOS
	for version, made := range map[string]func() (string, error){"1.2.3": older, "1.2.4": newer} {
		dir := copyOf(t, made)
		run(t, "sh", "-ec", `cd "$0" && mkdir new && tar -xzf certctl-agent_"$1"_linux_"$2".tar.gz -C new && cp "$3" new/ && tar -czf certctl-agent_"$1"_darwin_arm64.tar.gz -C new certctl-agent certctl-agent.plist && rm -r new`,
			dir, version, runtime.GOARCH, filepath.Join(abs(t, root), "deploy/launchd/certctl-agent.plist"))
		sign(t, dir, of(t, signing))
		m.bring(dir, version)
	}
	m.install("1.2.3", "--server", "https://certctl.example.com:8443", "--fingerprint", fingerprint, "--token-file", "/root/token")
	m.modes(map[string]string{"/Library/LaunchDaemons/certctl-agent.plist": "644 root:root", "/etc/certctl/agent.yaml": "600 root:root"})
	m.told("bootstrap system /Library/LaunchDaemons/certctl-agent.plist")
	m.install("1.2.3")
	m.told("bootstrap system /Library/LaunchDaemons/certctl-agent.plist")
	m.install("1.2.4")
	m.runs("1.2.4")
	m.told("bootstrap system /Library/LaunchDaemons/certctl-agent.plist", "bootout system/certctl-agent", "bootstrap system /Library/LaunchDaemons/certctl-agent.plist")
	if len(m.units()) > 0 {
		t.Errorf("units: %v", m.units())
	}
	m.refuses("a user", "--user is for Linux", "1.2.4", "--user", "somebody")
}

func (m *machine) told(want ...string) {
	m.t.Helper()
	if got := strings.Split(m.run("cat", "/root/launchctl"), "\n"); !slices.Equal(got, want) {
		m.t.Errorf("launchctl was told %q", got)
	}
}

// The daemon's description is XML, a key and its value by turns, and names what
// the installer installs.
func TestLaunchdDescription(t *testing.T) {
	t.Parallel()
	file, err := os.Open(filepath.Join(root, "deploy/launchd/certctl-agent.plist"))
	must(t, err)
	defer file.Close()
	decoder := xml.NewDecoder(file)
	depth, keys, values, text := 0, 0, 0, []string{}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			if depth++; depth != 3 {
				continue
			}
			if token.Name.Local == "key" {
				keys++
			} else {
				values++
			}
			if keys-values != map[bool]int{true: 1, false: 0}[token.Name.Local == "key"] {
				t.Errorf("%d keys and %d values at %s", keys, values, token.Name.Local)
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			if word := strings.TrimSpace(string(token)); word != "" {
				text = append(text, word)
			}
		}
	}
	if keys < 5 || keys != values || !slices.Equal(text[:5], []string{"Label", "certctl-agent", "ProgramArguments", "/usr/local/bin/certctl-agent", "run"}) {
		t.Errorf("%d keys, %d values, %q", keys, values, text)
	}
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	must(t, err)
	return path
}
