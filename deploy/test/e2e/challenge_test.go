package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
	"github.com/jackc/pgx/v5"
)

// acmeIssuer makes an issuer at a Pebble that proves names as a rule says.
func (s *stack) acmeIssuer(name string, ca *acmetest.Server, rule map[string]any) {
	s.t.Helper()
	s.call(http.MethodPost, "/api/v1/issuers", map[string]any{
		"name": name, "kind": "acme", "settings": map[string]any{
			"directory": ca.Directory, "ca_bundle": ca.CABundle, "allow_private_networks": true, "terms_of_service_agreed": true,
			"challenges": []any{rule},
		},
	}, nil)
}

func (s *stack) order(name, issuer string) {
	s.t.Helper()
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": name, "dns_names": []string{name + ".example.com", "www." + name + ".example.com"}, "issuer": issuer, "targets": []string{"web"},
	}, nil)
}

func (s *stack) active(name string) func() bool {
	return func() bool { return s.certificate(name).Status.State == "active" }
}

// says waits until an order of a certificate says something.
func (s *stack) says(name string, words ...string) {
	s.t.Helper()
	s.eventually(time.Minute, fmt.Sprintf("the order of %s says %q", name, words), func() bool {
		for _, o := range s.certificate(name).Status.Orders {
			all := true
			for _, word := range words {
				all = all && strings.Contains(o.Message, word)
			}
			if all {
				return true
			}
		}
		return false
	})
}

// nothingLeft waits until no proof is left in the database, in the agent's journal,
// in a folder or on a port.
func (s *stack) nothingLeft(webroot string, addresses ...string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.DatabaseURL)
	s.must(err)
	defer func() { s.must(conn.Close(s.t.Context())) }()
	s.eventually(30*time.Second, "no proof is left", func() bool {
		var n int
		s.must(conn.QueryRow(s.t.Context(), `
			select (select count(*) from challenge_token) + (select count(*) from node_proof) + (select count(*) from external_order)
				+ (select count(*) from due where kind = 'proof')`).Scan(&n))
		for _, address := range addresses {
			if open, err := net.DialTimeout("tcp", address, time.Second); err == nil {
				_ = open.Close()
				n++
			}
		}
		if webroot != "" {
			left, err := os.ReadDir(filepath.Join(webroot, ".well-known/acme-challenge"))
			s.must(err)
			n += len(left)
		}
		return n == 0
	})
}

// listens reports whether something listens at an address.
func listens(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// free makes the addresses at which a Pebble looks for proofs free for an agent.
func free(t *testing.T, ca *acmetest.Server) (plain, tls string) {
	t.Helper()
	for _, l := range []net.Listener{ca.Challenges, ca.Handshakes} {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return ca.Challenges.Addr().String(), ca.Handshakes.Addr().String()
}

// passOn has a HAProxy pass a CA's handshakes on to the agent, and nothing else.
func (s *stack) passOn(front, agent string) {
	s.t.Helper()
	proxy := &local.HAProxy{Dir: filepath.Join(s.Dir, "challenge-haproxy"), Listen: front, Config: fmt.Sprintf(`
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend tls
    mode tcp
    bind %s
    tcp-request inspect-delay 5s
    tcp-request content accept if { req.ssl_hello_type 1 }
    use_backend challenge if { req.ssl_alpn acme-tls/1 }
    default_backend web
backend challenge
    mode tcp
    server agent %s
backend web
    mode tcp
`, front, agent)}
	s.must(proxy.Start(s.t.Context()))
	s.t.Cleanup(proxy.Kill)
}

// The agent of the node that a certificate is bound on answers the CA, with a
// listener that is there only while it is needed; also if it is killed after it
// has said that it can be asked, and before the CA asks.
func TestAgentsAnswerACAThemselves(t *testing.T) {
	t.Parallel()
	ca := acmetest.Start(t, acmetest.Options{NonceReject: 5})
	plain, front := free(t, ca)
	port, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	handshakes := local.Loopback(port)
	s := startInstallation(t, &local.Installation{AgentPolicy: fmt.Sprintf("challenge_http: %q\nchallenge_tls: %q\n", plain, handshakes)})
	s.passOn(front, handshakes)
	s.acmeIssuer("plain", ca, map[string]any{"type": "http-01", "answered_by": "agents"})
	s.acmeIssuer("tls", ca, map[string]any{"type": "tls-alpn-01", "answered_by": []string{"local"}})
	if listens(plain) || listens(handshakes) {
		t.Error("the agent listens though nothing is to be proven")
	}
	s.order("shop", "plain")
	s.eventually(time.Minute, "shop is active", s.active("shop"))
	s.order("mail", "tls")
	s.eventually(time.Minute, "mail is active", s.active("mail"))
	s.nothingLeft("", plain, handshakes)

	accept := acmetest.Fault{Path: acmetest.Challenge, Times: 1, Hold: make(chan struct{})}
	ca.Fail(accept)
	s.order("late", "plain")
	s.eventually(time.Minute, "the agent can be asked", func() bool { return listens(plain) })
	s.eventually(time.Minute, "the worker tells the CA to look", func() bool { return ca.Held() == 1 })
	s.Agent.Kill()
	<-s.Agent.Done()
	if listens(plain) {
		t.Error("a dead agent listens")
	}
	s.must(s.Agent.Start(t.Context()))
	s.eventually(time.Minute, "it answers again", func() bool { return listens(plain) })
	close(accept.Hold)
	s.eventually(time.Minute, "late is active", s.active("late"))
	s.nothingLeft("", plain, handshakes)
	if n := ca.Count(acmetest.NewOrder); n != 3 {
		t.Errorf("%d orders at the CA for 3 certificates", n)
	}
}

// A node whose policy allows nothing refuses, and the order says so and what to do.
// With another policy it goes on by itself, with files that the node's nginx
// serves. A node that is off line is waited for, by its name.
func TestAProofIsServedByTheWebServerOfANode(t *testing.T) {
	t.Parallel()
	ca := acmetest.Start(t, acmetest.Options{})
	plain, _ := free(t, ca)
	s := start(t)
	webroot := filepath.Join(s.Dir, "www")
	s.must(os.MkdirAll(webroot, 0o755))
	server := filepath.Join(s.Dir, "plain.conf")
	s.must(os.WriteFile(server, []byte(fmt.Sprintf("server {\n    listen %s;\n    root %q;\n}\n", plain, webroot)), 0o600))
	dir := filepath.Join(s.Dir, "plain-nginx")
	web := &local.Nginx{Dir: dir, Config: local.NginxConfig(dir, server), Listen: plain}
	s.must(web.Start(t.Context()))
	t.Cleanup(web.Kill)

	s.acmeIssuer("pebble", ca, map[string]any{"type": "http-01", "answered_by": "agents"})
	s.order("shop", "pebble")
	s.says("shop", "the agent local does not answer the CA for shop.example.com, www.shop.example.com", "policy of this node does not allow answering http-01",
		"challenge_http or challenge_webroots in "+s.Agent.PolicyFile)
	policy, err := os.ReadFile(s.Agent.PolicyFile)
	s.must(err)
	s.must(os.WriteFile(s.Agent.PolicyFile, fmt.Appendf(policy, "challenge_webroots: [%q]\n", webroot), 0o600))
	s.must(s.Agent.Stop(t.Context()))
	s.must(s.Agent.Start(t.Context()))
	s.eventually(time.Minute, "shop is active", s.active("shop"))
	s.nothingLeft(webroot)

	edge, err := s.NewAgent("edge")
	s.must(err)
	s.must(s.Enrol(t.Context(), edge))
	s.must(os.WriteFile(edge.PolicyFile, fmt.Appendf(policy, "challenge_webroots: [%q]\n", webroot), 0o600))
	s.acmeIssuer("by-edge", ca, map[string]any{"type": "http-01", "answered_by": []string{"edge"}})
	s.order("mail", "by-edge")
	s.says("mail", "edge has never been on line")
	s.must(edge.Start(t.Context()))
	t.Cleanup(edge.Kill)
	s.eventually(time.Minute, "mail is active", s.active("mail"))
	s.nothingLeft(webroot)
	if n := ca.Count(acmetest.NewOrder); n != 2 {
		t.Errorf("%d orders at the CA for 2 certificates", n)
	}
}
