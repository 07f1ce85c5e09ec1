package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/certctl/certctl/agent/target/targettest"
)

// An operator tests a target that serves a certificate: the real agent says what it would do, and neither nginx
// nor its files notice.
func TestTargetsAreTestedFromTheCommandLine(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.ok("", "certificates", "create", "shop", "-d", "shop.example.com", "--issuer", "local", "--target", "web", "--wait")
	before, reloads := targettest.Snapshot(t, s.Nginx.Dir), s.reloads()
	out := s.ok("", "targets", "test", "web", "--wait")
	for _, want := range []string{"policy", "directory", "check", "reload", "serves the newest certificate of shop"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not named:\n%s", want, out)
		}
	}
	good, err := os.ReadFile(s.Nginx.ConfigFile())
	s.must(err)
	s.must(os.WriteFile(s.Nginx.ConfigFile(), append(good, "no_such_directive on;\n"...), 0o600))
	code, out, stderr := s.cli("", "targets", "test", "web", "--wait")
	if code != 1 || !strings.Contains(out, "no_such_directive") || !strings.Contains(stderr, "failed") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
	if shown := s.ok("", "targets", "get", "web"); !strings.Contains(shown, "state: failed") {
		t.Errorf("shown %s", shown)
	}
	s.must(os.WriteFile(s.Nginx.ConfigFile(), good, 0o600))
	for _, path := range targettest.Changed(before, targettest.Snapshot(t, s.Nginx.Dir)) {
		if path != s.Nginx.ConfigFile() {
			t.Errorf("changed: %s", path)
		}
	}
	if n := s.reloads(); n != reloads {
		t.Errorf("%d reloads, before %d", n, reloads)
	}
}

// reloads counts how often nginx was told to read its configuration again.
func (s *stack) reloads() int {
	return strings.Count(s.Nginx.Log(), "(SIGHUP) received")
}
