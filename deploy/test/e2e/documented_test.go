package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// What ./task up makes is what the documents' commands are typed against: the
// folder .certctl, the programs in its bin, the demo certificate on demo-nginx.
func startAsUp(t *testing.T) (s *stack, home string) {
	t.Helper()
	home = folder(t)
	s = &stack{t: t, Installation: &local.Installation{Binaries: binaries, Dir: filepath.Join(home, ".certctl")}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	s.must(s.Start(t.Context()))
	s.must(s.EnsureTarget(t.Context(), "demo-nginx"))
	s.must(os.Symlink(binaries, filepath.Join(home, ".certctl", "bin")))
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "demo", "dns_names": []string{"demo.certctl.localhost"}, "issuer": "local", "targets": []string{"demo-nginx"},
	}, nil)
	s.eventually(time.Minute, "the demo certificate is active", func() bool { return s.certificate("demo").Status.State == "active" })
	return s, home
}

// The commands of these documents, in their order, in one shell: what a reader
// types works, the first time. The port is the only thing that is another.
func TestDocumentedCommandsWork(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"getting-started.md", "api.md", "events.md", "migrating.md"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scripts, err := scriptsOf("../../../docs/" + name)
			if err != nil || len(scripts) == 0 {
				t.Fatalf("%d blocks of commands, %v", len(scripts), err)
			}
			s, home := startAsUp(t)
			var all strings.Builder
			all.WriteString("set -eo pipefail\nshopt -s expand_aliases\n")
			for _, script := range scripts {
				fmt.Fprintf(&all, "echo '=== %s' >&2\n%s", script.Place, script.Text)
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-c", strings.ReplaceAll(all.String(), "https://127.0.0.1:8443", s.Server.URL()))
			cmd.Dir, cmd.Env = home, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
			var said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &said
			if err := cmd.Run(); err != nil {
				t.Errorf("%v\n%s", err, &said)
			}
		})
	}
}

// runnable is what a fence says whose commands a test runs.
const runnable = "```sh run"

// script is a block of commands that a document says can be typed as it is.
type script struct {
	Place string // file and line
	Text  string
}

// scriptsOf returns the blocks of a document that begin with ```sh run, in order.
// Each finds what the ones before it have left, as a reader does.
func scriptsOf(path string) (all []script, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	indent, open := "", false
	for n, line := range strings.Split(string(text), "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case !open && trimmed == runnable:
			open, indent = true, line[:strings.Index(line, "`")]
			all = append(all, script{Place: fmt.Sprintf("%s:%d", path, n+1)})
		case open && strings.HasPrefix(trimmed, "```"):
			open = false
		case open:
			all[len(all)-1].Text += strings.TrimPrefix(line, indent) + "\n"
		}
	}
	if open {
		return nil, fmt.Errorf("%s: a block is not closed", all[len(all)-1].Place)
	}
	return all, nil
}
