package target_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl/agent/target/targettest"
)

// startFiles is a folder with a check that looks for a mark.
func startFiles(t *testing.T) *targettest.Daemon {
	t.Helper()
	dir := t.TempDir()
	directory, mark := filepath.Join(dir, "live"), filepath.Join(dir, "broken")
	script := filepath.Join(dir, "check")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\n[ ! -e '"+mark+"' ] || { echo 'it is broken' >&2; exit 1; }\n"), 0o700)) //nolint:gosec // a program
	return &targettest.Daemon{
		Directory: directory, Policy: anything{}, Complaint: "it is broken",
		Spec: spec(t, "files", map[string]any{
			"directory": directory, "check_command": []string{script}, "reload_command": []string{"/bin/true"},
		}),
		Break:  func() { must(t, os.WriteFile(mark, nil, 0o600)) },
		Repair: func() { must(t, os.Remove(mark)) },
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startFiles)
}

// A reload that fails takes everything back, and is tried once more with what
// was there before.
func TestFilesWhoseReloadFails(t *testing.T) {
	t.Parallel()
	targettest.Run(t, func(t *testing.T) *targettest.Daemon {
		t.Helper()
		d := startFiles(t)
		mark := filepath.Join(filepath.Dir(d.Directory), "broken")
		d.Spec = spec(t, "files", map[string]any{
			"directory": d.Directory, "reload_command": []string{filepath.Join(filepath.Dir(mark), "check")},
		})
		return d
	})
}
