package e2e

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// A certificate of an ACME server, from a POST to a handshake: the server's own
// listener answers for the proof, the node holds the key.
func TestAnACMECertificateIsServed(t *testing.T) {
	t.Parallel()
	ca, staging := acmetest.Start(t, acmetest.Options{NonceReject: 5}), acmetest.Start(t, acmetest.Options{Blocked: []string{"never.example.com"}})
	listen := ca.Challenges.Addr().String()
	if err := ca.Challenges.Close(); err != nil {
		t.Fatal(err)
	}
	forward(t, staging.Challenges, listen)
	s := startInstallation(t, &local.Installation{ServerEnv: []string{"CERTCTL_ACME_HTTP_LISTEN=" + listen}})
	s.call(http.MethodPost, "/api/v1/issuers", map[string]any{
		"name": "pebble", "kind": "acme", "settings": map[string]any{
			"directory": ca.Directory, "staging_directory": staging.Directory, "ca_bundle": ca.CABundle + staging.CABundle, "allow_private_networks": true,
			"terms_of_service_agreed": true,
		},
	}, nil)
	s.testsBeforehand()
	if n := ca.Count(acmetest.NewOrder) + ca.Accounts(); n != 0 {
		t.Errorf("the CA itself was asked %d times by a test", n)
	}
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "shop", "dns_names": []string{"shop.example.com", "www.shop.example.com"}, "issuer": "pebble", "targets": []string{"web"},
	}, nil)
	s.eventually(60*time.Second, "the certificate is active", func() bool { return s.certificate("shop").Status.State == "active" })
	first := s.versions("shop")[0]
	conn, err := tls.Dial("tcp", s.NginxAddress(), &tls.Config{RootCAs: ca.Roots, ServerName: "www.shop.example.com", MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if got := fingerprint(conn.ConnectionState().PeerCertificates[0]); got != first.Fingerprint {
		t.Errorf("nginx serves %s, the API says %s", got, first.Fingerprint)
	}
	if n := ca.Count(acmetest.NewOrder); n != 1 {
		t.Errorf("%d orders at the CA", n)
	}
	answer, err := http.Get("http://" + listen + "/.well-known/acme-challenge/not-one-of-ours") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("status %d for a token that is not ours", answer.StatusCode)
	}
}

// testsBeforehand has the command line test certificates that are not made.
func (s *stack) testsBeforehand() {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "shop.yaml")
	for name, want := range map[string]struct {
		code           int
		stdout, stderr []string
	}{
		"shop.example.com":  {0, []string{"   order\n", "   validate\n", "   download\n", "passed: shop could be issued"}, nil},
		"never.example.com": {1, []string{"   order\n"}, []string{"acme_rejectedIdentifier", "use another issuer"}},
	} {
		request := "name: shop\nissuer: pebble\ntargets: [web]\ndns_names: [" + name + "]\n"
		if err := os.WriteFile(file, []byte(request), 0o600); err != nil {
			s.t.Fatal(err)
		}
		code, stdout, stderr := s.cli("", "certificates", "test", "-f", file, "--wait")
		if code != want.code {
			s.t.Errorf("%s: exit code %d\n%s%s", name, code, stdout, stderr)
		}
		for _, part := range want.stdout {
			if !strings.Contains(stdout, part) {
				s.t.Errorf("%s: it prints no %q:\n%s%s", name, part, stdout, stderr)
			}
		}
		for _, part := range want.stderr {
			if !strings.Contains(stderr, part) {
				s.t.Errorf("%s: it does not say %q:\n%s", name, part, stderr)
			}
		}
	}
	if code, _, stderr := s.cli("", "certificates", "test", "-f", "-", "--wait"); code == 0 {
		s.t.Errorf("an empty request is tested: %s", stderr)
	}
}

// forward passes connections on, so that two CAs ask one listener.
func forward(t *testing.T, from net.Listener, to string) {
	t.Helper()
	go func() {
		for {
			in, err := from.Accept()
			if err != nil {
				return // closed
			}
			out, err := net.Dial("tcp", to) //nolint:noctx // a test's
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(out, in)
				_ = out.Close()
			}()
			go func() {
				_, _ = io.Copy(in, out)
				_ = in.Close()
			}()
		}
	}()
}
