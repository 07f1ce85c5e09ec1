package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

func TestPolicyPaths(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	folder := func(path string) string {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(full, 0o700); err != nil {
			t.Fatal(err)
		}
		return full
	}
	link := func(to, name string) {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	live, secret := folder("live"), folder("secret")
	folder("live/shop")
	folder("livelong")
	link(secret, "live/out")       // leads out
	link(live, "alias")            // leads in
	link("../live/shop", "live/x") // stays in
	link("/nowhere/x", "live/dangling")
	policy := &Policy{Directories: []string{live}, ConfigRoots: []string{filepath.Join(root, "alias")}}
	for path, allowed := range map[string]bool{
		"live": true, "live/": true, "live//shop": true, "live/shop/current": true, "live/new/deep": true, "alias/shop": true, "live/x/y": true,
		"livelong": false, "secret": false, "live/out": false, "live/out/x": false, "live/dangling": false, "live/dangling/x": false,
		"live/../secret": false, "live/shop/../../secret": false, "live/new/../../secret": false, "live/..": false, "": false,
	} {
		full := root + "/" + path
		if err := policy.AllowDirectory(full); (err == nil) != allowed {
			t.Errorf("directory %s: %v", path, err)
		}
		if err := policy.AllowConfig(full); (err == nil) != allowed {
			t.Errorf("configuration %s: %v", path, err)
		}
	}
	for _, path := range []string{"live", "./live", "", live + "\x00", "~/live"} {
		if policy.AllowDirectory(path) == nil {
			t.Errorf("%q is allowed", path)
		}
	}
	err := policy.AllowDirectory(secret)
	if certctl.ErrorCode(err) != certctl.Denied || !strings.Contains(remedyOf(err), "directories") {
		t.Errorf("got %v, remedy %q", err, remedyOf(err))
	}
}

func TestPolicySockets(t *testing.T) {
	t.Parallel()
	policy, err := ParsePolicy("policy", []byte("{sockets: [/run/certctl], socket_users: [shop, '1001']}"))
	if err != nil {
		t.Fatal(err)
	}
	for path, allowed := range map[string]bool{
		"/run/certctl/shop.sock": true, "/run/certctl/shop/sock": true, "/run/other.sock": false, "/run/certctl/../other.sock": false, "shop.sock": false,
	} {
		if err := policy.AllowSocket(path); (err == nil) != allowed {
			t.Errorf("%s: %v", path, err)
		}
	}
	for name, allowed := range map[string]bool{"shop": true, "1001": true, "root": false, "1002": false, "": false} {
		if err := policy.AllowSocketUser(name); (err == nil) != allowed {
			t.Errorf("%q: %v", name, err)
		}
	}
	builtIn := DefaultPolicy(t.TempDir())
	if err := builtIn.AllowSocketUser("shop"); certctl.ErrorCode(err) != certctl.Denied || !strings.Contains(remedyOf(err), "socket_users") {
		t.Errorf("without a policy file: %v, %q", err, remedyOf(err))
	}
	if err := builtIn.AllowSocket("/tmp/sock"); certctl.ErrorCode(err) != certctl.Denied || !strings.Contains(remedyOf(err), "sockets") {
		t.Errorf("without a policy file: %v, %q", err, remedyOf(err))
	}
	for _, bad := range []string{"sockets: [run]", "sockets: [/]", "socket_users: ['']", "socket_users: ['*']", "socket_users: ['user:shop']"} {
		if _, err := ParsePolicy("policy", []byte(bad)); err == nil {
			t.Errorf("%s is a policy", bad)
		}
	}
}

func TestPolicyHosts(t *testing.T) {
	t.Parallel()
	policy, err := ParsePolicy("policy", []byte("hosts: [web7.example.com:22, '*.lab.example.com:22', '[fd00::7]:443']"))
	if err != nil {
		t.Fatal(err)
	}
	for address, allowed := range map[string]bool{
		"web7.example.com:22": true, "WEB7.example.com:22": true, "a.lab.example.com:22": true, "a.b.lab.example.com:22": true, "[fd00::7]:443": true,
		"web7.example.com:23": false, "web7.example.com": false, "xweb7.example.com:22": false, ".lab.example.com:22": false, "lab.example.com:22": false,
		"a.lab.example.com:2222": false, "lab.example.com.evil.com:22": false, "": false,
	} {
		if err := policy.AllowHost(address); (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
	}
	if err := DefaultPolicy(t.TempDir()).AllowHost("web7.example.com:22"); certctl.ErrorCode(err) != certctl.Denied || !strings.Contains(remedyOf(err), "hosts") {
		t.Errorf("without a policy file: %v, %q", err, remedyOf(err))
	}
	for _, bad := range []string{"web7", "web7:", ":22", "*:22", "a.*.example.com:22", "web*.example.com:22"} {
		if _, err := ParsePolicy("policy", []byte("hosts: ['"+bad+"']")); err == nil {
			t.Errorf("%q is a host", bad)
		}
	}
}

func TestPolicyCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink("/usr/sbin/nginx", filepath.Join(dir, "alias")); err != nil {
		t.Fatal(err)
	}
	policy := &Policy{Commands: [][]string{{"/usr/sbin/nginx", "-t", "..."}, {"/bin/reload", "*"}, {"/bin/exact"}}}
	for command, allowed := range map[string]bool{
		"/usr/sbin/nginx -t": true, "/usr/sbin/nginx -t -c x": true, "/bin/reload a": true, "/bin/exact": true,
		"/usr/sbin/nginx": false, "/usr/sbin/nginx -s stop": false, "/bin/reload": false, "/bin/reload a b": false, "/bin/exact a": false,
		"nginx -t": false, "/usr/sbin/../sbin/nginx -t": false, "/bin/sh -c x": false, "/usr/sbin/nginx2 -t": false,
	} {
		if err := policy.AllowCommand(strings.Fields(command)); (err == nil) != allowed {
			t.Errorf("%s: %v", command, err)
		}
	}
	if policy.AllowCommand(nil) == nil {
		t.Error("no command is allowed")
	}
}

func TestPolicyFile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"good":           {content: "kinds: [files]\ndirectories: [/etc/x]\ncommands: [[/bin/true]]\n", mode: 0o644},
		"empty":          {content: "", mode: 0o600},
		"unknown key":    {content: "kind: [files]\n", mode: 0o644, want: "field kind not found"},
		"relative":       {content: "directories: [etc]\n", mode: 0o644, want: "must be an absolute path"},
		"everything":     {content: "directories: [/]\n", mode: 0o644, want: "must be an absolute path below /"},
		"dots":           {content: "directories: [/etc/../x]\n", mode: 0o644, want: "without .."},
		"bare command":   {content: "commands: [[nginx, -t]]\n", mode: 0o644, want: "absolute path of a program"},
		"no command":     {content: "commands: [[]]\n", mode: 0o644, want: "absolute path of a program"},
		"group-writable": {content: "kinds: [files]\n", mode: 0o664, want: "may be written to by others"},
		"world-writable": {content: "kinds: [files]\n", mode: 0o646, want: "may be written to by others"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "policy.yaml")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			policy, err := LoadPolicy(path, "/state", true)
			if c.want == "" && (err != nil || policy.Source() != path || policy.AllowKind("nginx") == nil) {
				t.Errorf("got %+v, %v", policy, err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestPolicyFileInAForeignFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPolicy(path, "/state", true); err == nil || !strings.Contains(err.Error(), "may be written to by others") {
		t.Errorf("got %v", err)
	}
}

func TestPolicyOwner(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		owner, user int
		want        bool
	}{{0, 0, true}, {0, 1000, true}, {1000, 1000, true}, {1000, 0, false}, {1001, 1000, false}} {
		if got := ownPolicy(c.owner, c.user); got != c.want {
			t.Errorf("owner %d, agent %d: %t", c.owner, c.user, got)
		}
	}
}

func TestPolicyDefault(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "policy.yaml")
	if _, err := LoadPolicy(missing, "/state", true); err == nil {
		t.Error("a named file may be missing")
	}
	policy, err := LoadPolicy(missing, "/state", false)
	if err != nil {
		t.Fatal(err)
	}
	if policy.AllowDirectory("/state/live/x") != nil || policy.AllowDirectory("/etc/certctl/live/x") != nil {
		t.Error("the default directories are refused")
	}
	if policy.AllowDirectory("/state/keys") == nil || policy.AllowDirectory("/etc") == nil || policy.AllowCommand([]string{"/bin/sh"}) == nil {
		t.Error("too much is allowed")
	}
}
