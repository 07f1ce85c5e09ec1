//go:build daemons

package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// far is a host without an agent: an OpenSSH server, and an nginx whose
// configuration names the files of the place "far".
type far struct {
	sshd              *local.SSHD
	nginx             *local.Nginx
	directory, server string
}

const farBlock = `server { listen %[1]s ssl; server_name far.example.com; ssl_certificate %[2]s/fullchain.pem; ssl_certificate_key %[2]s/privkey.pem; }
`

func (s *stack) startFar() *far {
	s.t.Helper()
	dir := filepath.Join(s.Dir, "far")
	first := filepath.Join(dir, "first")
	s.must(os.MkdirAll(first, 0o700))
	targettest.WritePair(s.t, filepath.Join(first, "fullchain.pem"), filepath.Join(first, "privkey.pem"), "first.example.com")
	address := func() string {
		port, err := local.FreePort()
		s.must(err)
		return local.Loopback(port)
	}
	f := &far{
		sshd: &local.SSHD{Dir: dir, Listen: address()}, directory: filepath.Join(dir, "live"), server: filepath.Join(dir, "server.conf"),
		nginx: &local.Nginx{Dir: filepath.Join(dir, "nginx"), Config: local.NginxConfig(filepath.Join(dir, "nginx"), filepath.Join(dir, "server.conf")), Listen: address()},
	}
	s.must(f.sshd.Start(s.t.Context()))
	s.t.Cleanup(f.sshd.Kill)
	s.must(os.WriteFile(f.server, fmt.Appendf(nil, farBlock, f.nginx.Listen, first), 0o600))
	s.must(f.nginx.Start(s.t.Context()))
	s.t.Cleanup(f.nginx.Kill)
	s.must(os.WriteFile(f.server, fmt.Appendf(nil, farBlock, f.nginx.Listen, filepath.Join(f.directory, "far", "current")), 0o600))
	return f
}

// startProxy starts a certctl-proxy that may change these hosts.
func (s *stack) startProxy(f *far, hosts ...string) {
	s.t.Helper()
	proxy, err := s.NewAgent("proxy")
	s.must(err)
	binary, err := local.FindNginx()
	s.must(err)
	proxy.Binary = filepath.Join(s.Binaries, "certctl-proxy")
	s.must(os.WriteFile(proxy.PolicyFile, fmt.Appendf(nil, "kinds: [ssh, files]\nhosts: [%q]\ndirectories: [%q]\nconfig_roots: [%q]\ncommands:\n  - [%q, \"...\"]\n",
		strings.Join(hosts, `", "`), f.directory, f.sshd.Dir, binary), 0o600))
	s.must(s.Enrol(s.t.Context(), proxy))
	s.must(proxy.Start(s.t.Context()))
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Log("proxy: " + proxy.Process().Log())
		}
		proxy.Kill()
	})
}

// settings are those of the far host.
func (s *stack) farSettings(f *far) map[string]any {
	s.t.Helper()
	user, err := f.sshd.User()
	s.must(err)
	key, err := f.sshd.HostKey("ed25519")
	s.must(err)
	binary, err := local.FindNginx()
	s.must(err)
	command := func(more ...string) []string {
		return append([]string{binary, "-p", f.nginx.Dir, "-e", "stderr", "-c", f.nginx.ConfigFile()}, more...)
	}
	return map[string]any{
		"host": f.sshd.Listen, "user": user, "private_key_file": f.sshd.UserKeyFile(), "host_keys": []string{key}, "directory": f.directory,
		"check_command": command("-t"), "reload_command": command("-s", "reload"), "listen": []string{f.nginx.Listen},
	}
}

func (f *far) served() string {
	conn, err := tls.Dial("tcp", f.nginx.Listen, &tls.Config{ServerName: "far.example.com", InsecureSkipVerify: true}) //nolint:gosec // the leaf is compared
	if err != nil {
		return ""
	}
	defer conn.Close()
	return fingerprint(conn.ConnectionState().PeerCertificates[0])
}

// A host without an agent is served through a proxy as nodes are: from a POST to a
// handshake, renewed with a new key, put back when it refuses. The server refuses
// settings that cannot be right, and the proxy the hosts that its policy does not
// name, whatever the server says.
func TestAHostWithoutAnAgentIsServedThroughAProxy(t *testing.T) {
	t.Parallel()
	s := start(t)
	f := s.startFar()
	s.startProxy(f, f.sshd.Listen)
	s.eventually(20*time.Second, "the proxy says what it can", func() bool {
		var agent struct {
			Capabilities []string `json:"capabilities"`
		}
		s.call(http.MethodGet, "/api/v1/agents/proxy", nil, &agent)
		return slices.Equal(agent.Capabilities, []string{"files", "ssh"})
	})
	settings := s.farSettings(f)
	target := map[string]any{"name": "far", "agent": "proxy", "kind": "ssh", "settings": settings}
	settings["key_mode"] = "0644"
	if err := s.API.Call(t.Context(), http.MethodPost, "/api/v1/targets", target, nil); err == nil || !strings.Contains(err.Error(), "key_mode") {
		t.Errorf("a key for everybody: %v", err)
	}
	delete(settings, "key_mode")
	s.call(http.MethodPost, "/api/v1/targets", target, nil)
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "far", "dns_names": []string{"far.example.com"}, "issuer": "local", "targets": []string{"far"},
	}, nil)
	s.eventually(time.Minute, "the certificate is active", func() bool { return s.certificate("far").Status.State == "active" })
	first := s.versions("far")[0]
	s.eventually(10*time.Second, "it is served", func() bool { return f.served() == first.Fingerprint })
	s.call(http.MethodPost, "/api/v1/certificates/far/renew", map[string]any{}, nil)
	s.eventually(time.Minute, "the renewal is served", func() bool {
		versions := s.versions("far")
		return len(versions) == 2 && versions[0].SPKI != first.SPKI && f.served() == versions[0].Fingerprint
	})
	s.eventually(10*time.Second, "the renewal is recorded", func() bool { return s.certificate("far").Status.State == "active" })

	settings["host"] = "localhost:22"
	target["name"] = "elsewhere"
	s.call(http.MethodPost, "/api/v1/targets", target, nil)
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "elsewhere", "dns_names": []string{"elsewhere.example.com"}, "issuer": "local", "targets": []string{"elsewhere"},
	}, nil)
	s.eventually(30*time.Second, "the proxy refuses another host", func() bool {
		for _, d := range s.certificate("elsewhere").Status.Deployments {
			if strings.Contains(d.Message, "does not allow changing the host localhost:22") {
				return true
			}
		}
		return false
	})
}
