package target_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// haproxyConfig takes its certificates from a folder.
const haproxyConfig = `global
    log stderr format raw local0
    stats socket %s level admin
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend tls
    bind %s ssl crt %s
    http-request return status 200
`

// startHAProxy starts a real HAProxy with a certificate of its own, which it
// serves to those who ask for a name that no other is for.
func startHAProxy(t *testing.T) *targettest.Daemon {
	t.Helper()
	d, _ := haproxyWith(t, func(map[string]any, string) {})
	return d
}

// haproxyWith starts one whose settings are changed, which may name its socket.
func haproxyWith(t *testing.T, change func(settings map[string]any, socket string)) (d *targettest.Daemon, socket string) {
	t.Helper()
	binary, err := local.FindHAProxy()
	must(t, err)
	dir := t.TempDir()
	port, err := local.FreePort()
	must(t, err)
	address, directory, links := local.Loopback(port), filepath.Join(dir, "tls"), filepath.Join(dir, "links")
	must(t, os.Mkdir(links, 0o700))
	targettest.WritePair(t, filepath.Join(links, "a.pem"), filepath.Join(links, "a.pem.key"), "haproxy.example.com")
	socket = filepath.Join(shortDir(t), "socket")
	haproxy := &local.HAProxy{Dir: dir, Listen: address, Config: fmt.Sprintf(haproxyConfig, socket, address, links)}
	must(t, haproxy.Start(t.Context()))
	t.Cleanup(haproxy.Kill)
	pidFile := filepath.Join(dir, "haproxy.pid")
	must(t, os.WriteFile(pidFile, []byte(strconv.Itoa(haproxy.PID())), 0o600))
	good, err := os.ReadFile(haproxy.ConfigFile())
	must(t, err)
	settings := map[string]any{
		"directory": directory, "config": haproxy.ConfigFile(), "binary": binary, "pid_file": pidFile,
		"listen": []string{address}, "links": links,
	}
	change(settings, socket)
	return &targettest.Daemon{
		Spec:      spec(t, "haproxy", settings),
		Directory: directory, Policy: anything{}, Address: address, Complaint: "no-such-keyword",
		Break:  func() { must(t, os.WriteFile(haproxy.ConfigFile(), append(good, "    no-such-keyword\n"...), 0o600)) },
		Repair: func() { must(t, os.WriteFile(haproxy.ConfigFile(), good, 0o600)) },
	}, socket
}

// shortDir is a folder for sockets, whose paths must be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "certctl-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestHAProxy(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startHAProxy)
}

func TestHAProxySettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"links among the places": `{"directory": "/srv/tls", "config": "/etc/haproxy.cfg", "listen": [], "links": "/srv/tls/links"}`,
		"no configuration":       `{"directory": "/srv/tls", "listen": []}`,
		"a relative program":     `{"directory": "/srv/tls", "config": "/etc/haproxy.cfg", "listen": [], "reload": ["systemctl"]}`,
		"a socket somewhere":     `{"directory": "/srv/tls", "config": "/etc/haproxy.cfg", "listen": [], "control": "127.0.0.1:9999"}`,
	} {
		if err := target.Validate("haproxy", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("haproxy", []byte(`{"directory": "/srv/tls", "config": "/etc/haproxy.cfg", "listen": ["127.0.0.1:443"], "links": "/srv/links", "control": "/run/haproxy/admin.sock"}`)))
}
