// Package e2e holds the tests that run certctl as its users do: separate
// processes of server, agent and nginx, a real PostgreSQL, and nothing but the
// API, the files and the handshakes to look at.
package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// binaries is where TestMain has built the programs.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "certctl-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		root, err := filepath.Abs("../../..")
		if err == nil {
			err = local.Build(context.Background(), root, dir, "./cmd/...", "./examples/events", local.NATSPackage)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		binaries = dir
		return m.Run()
	}())
}

// stack is one installation with one agent and one nginx.
type stack struct {
	*local.Installation
	t *testing.T
}

// start brings up an installation with the target "web"; everything ends with
// the test.
func start(t *testing.T) *stack {
	t.Helper()
	return startInstallation(t, &local.Installation{})
}

// startInstallation is start for one whose folders and binaries are not set yet.
func startInstallation(t *testing.T, i *local.Installation) *stack {
	t.Helper()
	i.Binaries, i.Dir, i.ServerEnv = binaries, folder(t), append(i.ServerEnv, "CERTCTL_LOG_LEVEL=debug")
	s := &stack{t: t, Installation: i}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	s.must(s.Start(t.Context()))
	s.must(s.EnsureTarget(t.Context(), "web"))
	return s
}

// folder is a temporary folder that every user may pass through: PostgreSQL
// does not run as root.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "certctl-e2e-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (s *stack) call(method, path string, body, out any) {
	s.t.Helper()
	if err := s.API.Call(s.t.Context(), method, path, body, out); err != nil {
		s.t.Fatalf("%s %s: %v\nserver: %s", method, path, err, s.Server.Process().Log())
	}
}

func (s *stack) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// certificate is what the tests read of one.
type certificate struct {
	ID     string `json:"id"`
	Status struct {
		State  string `json:"state"`
		Orders []struct {
			State   string `json:"state"`
			Message string `json:"message"`
		} `json:"orders"`
		Deployments []deployment `json:"deployments"`
	} `json:"status"`
}

type deployment struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Version string `json:"version"`
}

type version struct {
	ID          string `json:"id"`
	Fingerprint string `json:"fingerprint_sha256"`
	SPKI        string `json:"spki_sha256"`
}

func (s *stack) certificate(name string) certificate {
	s.t.Helper()
	var c certificate
	s.call(http.MethodGet, "/api/v1/certificates/"+name, nil, &c)
	return c
}

// versions are newest first.
func (s *stack) versions(name string) []version {
	s.t.Helper()
	var list struct {
		Items []version `json:"items"`
	}
	s.call(http.MethodGet, "/api/v1/certificates/"+name+"/versions", nil, &list)
	return list.Items
}

// eventually waits for a condition, with the state of things when it does not
// come true.
func (s *stack) eventually(limit time.Duration, what string, condition func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			s.t.Fatalf("not within %s: %s\nserver: %s\nagent: %s", limit, what, s.Server.Process().Log(), s.Agent.Process().Log())
		}
	}
}

// served returns the leaf that nginx serves for a name, verified to the root.
func (s *stack) served(name string) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	root, err := os.ReadFile(s.Server.CAFile)
	if err != nil {
		return nil, err
	}
	roots.AppendCertsFromPEM(root)
	dialer := tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: roots}}
	connection, err := dialer.DialContext(s.t.Context(), "tcp", s.NginxAddress())
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return connection.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

func (s *stack) servedFingerprint(name string) string {
	leaf, err := s.served(name)
	if err != nil {
		return ""
	}
	return fingerprint(leaf)
}

func fingerprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.Raw)
	return hex.EncodeToString(sum[:])
}

func parsePEM(t *testing.T, chain []byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		parsed, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, parsed)
	}
	if len(out) == 0 {
		t.Fatalf("no certificate in %q", strings.TrimSpace(string(chain)))
	}
	return out
}
