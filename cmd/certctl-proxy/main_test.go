package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// It is the agent's program under another name, with other files.
func TestIsTheAgentsProgram(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "certctl-proxy")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--help"}, 0, "/var/lib/certctl-proxy"},
		{[]string{"run", "--data-dir", filepath.Join(t.TempDir(), "state")}, 1, "certctl-proxy: "},
		{[]string{"policy", "check"}, 0, "hosts: []"},
	} {
		cmd := exec.CommandContext(t.Context(), path, c.args...)
		cmd.Env = []string{}
		output, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(output), c.want) {
			t.Errorf("%v: exit code %d: %s", c.args, code, output)
		}
	}
}
