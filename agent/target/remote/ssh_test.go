//go:build daemons

package remote_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := local.FreePort()
	must(t, err)
	return local.Loopback(port)
}

// host is a real OpenSSH server in front of a real nginx.
type host struct {
	sshd     *local.SSHD
	settings map[string]any
	*targettest.Daemon
}

const block = `server { listen %[1]s ssl; server_name shop.example.com; ssl_certificate %[2]s/fullchain.pem; ssl_certificate_key %[2]s/privkey.pem; }
`

// startHost starts both. nginx has a certificate of its own; its configuration
// names the place's files from then on.
func startHost(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	sshd := &local.SSHD{Dir: filepath.Join(dir, "ssh"), Listen: freeAddress(t)}
	must(t, os.Mkdir(sshd.Dir, 0o700))
	must(t, sshd.Start(t.Context()))
	t.Cleanup(sshd.Kill)
	binary, err := local.FindNginx()
	must(t, err)
	first, directory, server := filepath.Join(dir, "first"), filepath.Join(dir, "tls"), filepath.Join(dir, "server.conf")
	must(t, os.Mkdir(first, 0o700))
	targettest.WritePair(t, filepath.Join(first, "fullchain.pem"), filepath.Join(first, "privkey.pem"), "first.example.com")
	nginx := &local.Nginx{Dir: filepath.Join(dir, "nginx"), Config: local.NginxConfig(filepath.Join(dir, "nginx"), server), Listen: freeAddress(t)}
	must(t, os.WriteFile(server, fmt.Appendf(nil, block, nginx.Listen, first), 0o600))
	must(t, nginx.Start(t.Context()))
	t.Cleanup(nginx.Kill)
	good := fmt.Appendf(nil, block, nginx.Listen, filepath.Join(directory, "shop", "current"))
	write := func(content []byte) func() { return func() { must(t, os.WriteFile(server, content, 0o600)) } }
	write(good)()
	user, err := sshd.User()
	must(t, err)
	known := filepath.Join(dir, "known_hosts")
	key, err := sshd.HostKey("ed25519")
	must(t, err)
	name, port, _ := strings.Cut(sshd.Listen, ":")
	must(t, os.WriteFile(known, fmt.Appendf(nil, "[%s]:%s %s\n", name, port, key), 0o600))
	command := func(more ...string) []string {
		return append([]string{binary, "-p", nginx.Dir, "-e", "stderr", "-c", nginx.ConfigFile()}, more...)
	}
	h := &host{sshd: sshd, settings: map[string]any{
		"host": sshd.Listen, "user": user, "private_key_file": sshd.UserKeyFile(), "known_hosts_file": known, "directory": directory,
		"check_command": command("-t"), "reload_command": command("-s", "reload"), "listen": []string{nginx.Listen},
	}}
	h.Daemon = &targettest.Daemon{
		Spec: h.spec(t, nil), Table: remote.Kinds(), Directory: directory, Policy: anything{}, Address: nginx.Listen, Single: true,
		Complaint: "no_such_directive", Break: write(append(bytes.Clone(good), "no_such_directive on;\n"...)), Repair: write(good),
		Unname: write(fmt.Appendf(nil, block, nginx.Listen, first)),
	}
	return h
}

// spec is the target with some settings changed; nil takes one away.
func (h *host) spec(t *testing.T, changed map[string]any) certctl.TargetCommand {
	t.Helper()
	settings := map[string]any{}
	for _, from := range []map[string]any{h.settings, changed} {
		for name, value := range from {
			settings[name] = value
			if value == nil {
				delete(settings, name)
			}
		}
	}
	encoded, err := json.Marshal(settings)
	must(t, err)
	return certctl.TargetCommand{Name: "web", Kind: "ssh", Settings: encoded}
}

// with is the daemon as another target describes it.
func (h *host) with(t *testing.T, changed map[string]any) *targettest.Daemon {
	t.Helper()
	d := *h.Daemon
	d.Spec = h.spec(t, changed)
	return &d
}

func TestSSH(t *testing.T) {
	t.Parallel()
	targettest.Run(t, func(t *testing.T) *targettest.Daemon {
		t.Helper()
		return startHost(t).Daemon
	})
}

// A host with another key, or one that nobody has made known, gets nothing.
func TestSSHHostsMustBeKnown(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	other, err := os.ReadFile(h.sshd.UserKeyFile() + ".pub")
	must(t, err)
	ecdsa, err := h.sshd.HostKey("ecdsa")
	must(t, err)
	empty, revoked := filepath.Join(t.TempDir(), "known_hosts"), filepath.Join(t.TempDir(), "known_hosts")
	must(t, os.WriteFile(empty, nil, 0o600))
	name, port, _ := strings.Cut(h.sshd.Listen, ":")
	must(t, os.WriteFile(revoked, fmt.Appendf(nil, "[%[1]s]:%[2]s %[3]s\n@revoked * %[3]s\n", name, port, ecdsa), 0o600))
	for what, changed := range map[string]map[string]any{
		"another key":   {"known_hosts_file": nil, "host_keys": []string{strings.TrimSpace(string(other))}},
		"no known host": {"known_hosts_file": empty},
		"a revoked key": {"known_hosts_file": revoked},
	} {
		r := targettest.Install(t, h.with(t, changed))
		if r.Outcome != certctl.OutcomeFailed || r.Remedy == "" && what != "a revoked key" || !strings.Contains(r.Message, "key") && !strings.Contains(r.Message, "known") {
			t.Errorf("%s: %+v", what, r)
		}
	}
	if _, err := os.Stat(h.Directory); err == nil {
		t.Error("something was written")
	}
	// One of its keys is enough, and it is asked for that one.
	r := targettest.Install(t, h.with(t, map[string]any{"known_hosts_file": nil, "host_keys": []string{ecdsa}}))
	if r.Outcome != certctl.OutcomeVerified {
		t.Errorf("a key that was given: %+v", r)
	}
}

// A key that the host does not know, that others may read or that is locked opens
// nothing.
func TestSSHKeysOfTheProxy(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	stranger := filepath.Join(h.sshd.Dir, "host_ecdsa")
	open := filepath.Join(t.TempDir(), "open")
	content, err := os.ReadFile(h.sshd.UserKeyFile())
	must(t, err)
	must(t, os.WriteFile(open, content, 0o644)) //nolint:gosec // on purpose
	for path, want := range map[string]string{stranger: "does not let", open: "may be read by others", h.sshd.UserKeyFile() + ".pub": "", "/nonexistent": "cannot be read"} {
		if r := targettest.Install(t, h.with(t, map[string]any{"private_key_file": path})); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Message, want) {
			t.Errorf("%s: %+v", path, r)
		}
	}
}

// What the host's SFTP was asked, in its own log: a folder is closed to others
// before a file is made in it, and a file before it has content, whatever the
// umask.
func TestSSHKeysAreNeverReadableByOthers(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	if r := targettest.Install(t, h.with(t, map[string]any{"key_mode": "0640", "bundle": true, "gid": os.Getegid()})); r.Outcome != certctl.OutcomeVerified {
		t.Fatalf("%+v", r)
	}
	log, err := h.sshd.Requests()
	must(t, err)
	folder := filepath.Join(h.Directory, "shop", "generations", "1.new")
	closed := strings.Index(log, `set "`+folder+`" mode 0700`)
	for _, name := range []string{"privkey.pem", "bundle.pem"} {
		opened := strings.Index(log, `open "`+filepath.Join(folder, name)+`"`)
		if closed < 0 || opened < closed {
			t.Fatalf("%s was opened before its folder was closed:\n%s", name, log)
		}
		rest := log[opened:]
		if limited, written := strings.Index(rest, `mode 0600`), regexp.MustCompile(`request \d+: write`).FindStringIndex(rest); limited < 0 || written == nil || written[0] < limited {
			t.Errorf("%s was written before it was closed to others:\n%s", name, rest)
		}
		info, err := os.Stat(filepath.Join(h.Directory, "shop", "current", name))
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

// The connection breaks between the switch and the proof, and the host is away for
// a while: the receipt says so, and the next installation takes the switch back
// first. What cannot be loaded then leads to the version of before.
func TestSSHConnectionsBreak(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	between := &local.Proxy{Network: "tcp", Listen: freeAddress(t), Target: h.sshd.Listen}
	must(t, between.Start(t.Context()))
	t.Cleanup(func() { must(t, between.Stop(t.Context())) })
	key, err := h.sshd.HostKey("ed25519")
	must(t, err)
	d := h.with(t, map[string]any{"host": between.Listen, "known_hosts_file": nil, "host_keys": []string{key}})
	targettest.Breaks(t, d, target.FaultSwitched, between.Cut, between.Heal)
	targettest.Breaks(t, d, target.FaultReloaded, between.Drop, func() {})
}

// A command that does not end does not hold up the target.
func TestSSHCommandsThatHangAreGivenUp(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	d := h.with(t, map[string]any{"check_command": []string{"/bin/sleep", "300"}})
	begin := time.Now()
	if r := targettest.Install(t, d); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Message, "did not end within") || time.Since(begin) > time.Minute {
		t.Errorf("%+v", r)
	}
}
