package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// on runs the agent's program on the node, under its policy.
func (s *stack) on(input string, args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), filepath.Join(binaries, "certctl-agent"), args...)
	cmd.Env = []string{"CERTCTL_DATA_DIR=" + s.Agent.Dir, "CERTCTL_POLICY=" + s.Agent.PolicyFile}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("certctl-agent %v: %v\n%s%s", args, err, out.String(), errs.String())
	}
	return out.String()
}

// An nginx whose server blocks name files that somebody else keeps comes under
// management without a moment in which it serves anything else: inspect, seed, patch,
// reload, adopt.
func TestAnExistingNginxIsAdopted(t *testing.T) {
	t.Parallel()
	s := start(t)
	port, err := local.FreePort()
	s.must(err)
	dir, address := filepath.Join(s.Dir, "other"), local.Loopback(port)
	s.must(os.MkdirAll(filepath.Join(dir, "sites"), 0o755))
	for i := range 3 {
		name := fmt.Sprintf("s%d.example.com", i)
		pair := filepath.Join(dir, "live", name)
		s.must(os.MkdirAll(pair, 0o755))
		targettest.WritePair(t, filepath.Join(pair, "fullchain.pem"), filepath.Join(pair, "privkey.pem"), name)
		s.must(os.WriteFile(filepath.Join(dir, "sites", name), []byte(fmt.Sprintf(
			"server {\n  listen %s ssl;\n  server_name %s;\n  ssl_certificate %s/fullchain.pem;\n  ssl_certificate_key %s/privkey.pem;\n}\n", address, name, pair, pair)), 0o600))
	}
	nginx := &local.Nginx{Dir: dir, Config: local.NginxConfig(dir, filepath.Join(dir, "sites", "*")), Listen: address}
	s.must(nginx.Start(t.Context()))
	t.Cleanup(nginx.Kill)
	binary, err := local.FindNginx()
	s.must(err)
	args := []string{"inspect", "nginx", "--daemon-config", nginx.ConfigFile(), "--binary", binary, "--pid-file", nginx.PIDFile(), "--directory", filepath.Join(s.Agent.Dir, "live", "own")}
	proposal := s.on("", args...)
	if lacking := strings.Contains(proposal, "\npolicy:"); !lacking || !strings.Contains(proposal, "config_roots:") {
		t.Errorf("the policy lacks lines, and the proposal does not say which:\n%s", proposal)
	}
	s.allow(dir, binary)
	proposal = s.on("", args...)
	if strings.Contains(proposal, "\npolicy:") {
		t.Errorf("the policy lacks nothing:\n%s", proposal)
	}
	s.on(proposal, "seed", "-f", "-")
	patch := exec.CommandContext(t.Context(), "patch", "-d", "/", "-p0", "--batch")
	patch.Stdin = strings.NewReader(s.on("", append(args, "--output", "patch")...))
	if out, err := patch.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.must(os.RemoveAll(filepath.Join(dir, "live")))
	s.must(nginx.Reload())
	s.adopt(proposal)
}

// allow widens the policy of the node, as its owner would, and starts the agent anew.
func (s *stack) allow(dir, binary string) {
	s.t.Helper()
	policy, err := os.ReadFile(s.Agent.PolicyFile)
	s.must(err)
	text := strings.Replace(string(policy), "config_roots: [", fmt.Sprintf("config_roots: [%q, ", dir), 1)
	text = strings.Replace(text, "commands:\n", fmt.Sprintf("commands:\n  - [%q, \"...\"]\n", binary), 1)
	s.must(os.WriteFile(s.Agent.PolicyFile, []byte(text), 0o600))
	s.must(s.Agent.Stop(s.t.Context()))
	s.must(s.Agent.Start(s.t.Context()))
}

// adopt binds what is served, and waits until nginx serves what was issued for it.
func (s *stack) adopt(proposal string) {
	s.t.Helper()
	if code, _, stderr := s.cli(proposal, "targets", "adopt", "-f", "-"); code != 1 || !strings.Contains(stderr, "--issuer") {
		s.t.Errorf("without an issuer: exit code %d, %s", code, stderr)
	}
	if out := s.ok(proposal, "targets", "adopt", "-f", "-", "--issuer", "local", "--dry-run"); strings.Count(out, "would have s") != 3 {
		s.t.Errorf("plan %s", out)
	}
	s.ok(proposal, "targets", "adopt", "-f", "-", "--issuer", "local")
	for i := range 3 {
		name := fmt.Sprintf("s%d.example.com", i)
		if out := s.ok("", "certificates", "status", name, "--watch"); !strings.Contains(out, "active") {
			s.t.Errorf("%s: %s", name, out)
		}
	}
	if out := s.ok("", "targets", "test", "local-nginx", "--wait"); strings.Count(out, "serves the newest certificate") != 3 {
		s.t.Errorf("test %s", out)
	}
	if out := s.ok(proposal, "targets", "adopt", "-f", "-"); strings.Count(out, "already") != 3 {
		s.t.Errorf("once more: %s", out)
	}
	// A target of that name, but of another folder: nothing is bound there.
	other := strings.Replace(proposal, "/live/own", "/live/elsewhere", 1)
	if code, out, stderr := s.cli(other, "targets", "adopt", "-f", "-"); code != 1 || strings.Contains(out, "bind ") || !strings.Contains(stderr, "differs in its settings") {
		s.t.Errorf("onto another target: exit code %d, %s%s", code, out, stderr)
	}
}
