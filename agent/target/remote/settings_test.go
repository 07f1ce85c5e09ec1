package remote

import (
	"encoding/json"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"

func sshWith(changed map[string]any) json.RawMessage {
	settings := map[string]any{
		"host": "web7.example.com", "user": "certctl", "private_key_file": "/etc/certctl/ssh/key", "host_keys": []string{hostKey},
		"directory": "/etc/certctl/live",
	}
	maps.Copy(settings, changed)
	encoded, err := json.Marshal(settings)
	if err != nil {
		panic(err)
	}
	return encoded
}

func TestSSHSettings(t *testing.T) {
	t.Parallel()
	if err := Kinds().Validate("ssh", sshWith(nil)); err != nil {
		t.Fatal(err)
	}
	for field, bad := range map[string]any{
		"host": "a b", "user": "", "private_key_file": "key", "host_keys": []string{"ssh-ed25519 x"}, "directory": "live/..",
		"known_hosts_file": "/etc/ssh/ssh_known_hosts", "uid": -1, "key_mode": "0644", "check_command": []string{"nginx", "-t"},
		"reload_command": []string{"/bin/kill", "a\nb"}, "listen": []string{"443"}, "unknown": 1,
	} {
		if err := Kinds().Validate("ssh", sshWith(map[string]any{field: bad})); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s = %v: %v", field, bad, err)
		}
	}
	if err := Kinds().Validate("ssh", sshWith(map[string]any{"host_keys": nil})); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("a host that nobody knows: %v", err)
	}
}

// What an agent can do a proxy can, too, and not the other way round.
func TestKindsAreTheAgentsAndMore(t *testing.T) {
	t.Parallel()
	for _, kind := range target.Kinds() {
		if !slices.ContainsFunc(Kinds(), func(d target.Descriptor) bool { return d.Kind == kind.Kind }) {
			t.Errorf("a proxy has no kind %s", kind.Kind)
		}
	}
	if err := target.Validate("ssh", sshWith(nil)); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("the agent has a kind of the proxy's: %v", err)
	}
}

// policy refuses one thing.
type policy struct{ refused string }

func (p policy) allow(what string) error {
	if what == p.refused {
		return certctl.Errorf(certctl.Denied, "not %s", what)
	}
	return nil
}

func (p policy) AllowDirectory(path string) error { return p.allow(path) }
func (p policy) AllowConfig(path string) error    { return p.allow(path) }
func (p policy) AllowCommand(argv []string) error { return p.allow(argv[0]) }
func (p policy) AllowHost(address string) error   { return p.allow(address) }

func open(p target.Policy, s json.RawMessage) error {
	_, err := Kinds().Open(certctl.TargetCommand{Name: "web", Kind: "ssh", Settings: s}, target.Env{Policy: p, Now: time.Now})
	return err
}

func TestSSHPolicy(t *testing.T) {
	t.Parallel()
	settings := sshWith(map[string]any{
		"check_command": []string{"/usr/sbin/nginx", "-t"}, "reload_command": []string{"/usr/bin/systemctl", "reload", "nginx"},
		"host_keys": nil, "known_hosts_file": "/etc/certctl/ssh/known_hosts",
	})
	if err := open(policy{}, settings); err != nil {
		t.Fatal(err)
	}
	for _, refused := range []string{
		"web7.example.com:22", "/etc/certctl/ssh/key", "/etc/certctl/ssh/known_hosts", "/etc/certctl/live", "/usr/sbin/nginx", "/usr/bin/systemctl",
	} {
		if err := open(policy{refused}, settings); certctl.ErrorCode(err) != certctl.Denied {
			t.Errorf("%s: %v", refused, err)
		}
	}
	// A policy that says nothing of hosts allows none.
	if err := open(struct{ target.Policy }{policy{}}, settings); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("no hosts: %v", err)
	}
}

func TestHostPort(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"web7": "web7:22", "web7:2222": "web7:2222", "[fd00::7]:22": "[fd00::7]:22", "192.0.2.7": "192.0.2.7:22",
		"": "", ":22": "", "web7:0": "", "web7:70000": "", "me@web7": "", "https://web7": "", "*.example.com": "",
	} {
		if got := hostPort(given, "22"); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}

// A real shell reads the arguments that were given.
func TestCommandLineIsReadAsItWasMeant(t *testing.T) {
	t.Parallel()
	args := []string{"plain", "", "two words", "it's", `"$HOME"`, "`id`", "$(id)", ";id", "*", "~", "a=b", `back\slash`, "#", "-n", "!x", "ä"}
	output, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", commandLine(append([]string{"/usr/bin/printf", "%s\\n"}, args...))).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(output), "\n"), "\n"); !slices.Equal(got, args) {
		t.Errorf("%q", got)
	}
}
