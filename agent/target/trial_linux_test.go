package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// Only what a namespace cannot do, and an installation could, is not held against
// the installation.
func TestWhatOnlyATrialCannotDo(t *testing.T) {
	t.Parallel()
	for err, only := range map[error]bool{
		&fs.PathError{Op: "mkdir", Path: "/x", Err: syscall.EOVERFLOW}: true,
		&fs.PathError{Op: "chown", Path: "/x", Err: syscall.EINVAL}:    true,
		&fs.PathError{Op: "chown", Path: "/x", Err: syscall.EPERM}:     true,
		fmt.Errorf("%w: %w", errNoMount, syscall.ENODEV):               true,
		&fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOTDIR}:    false,
		&fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}:     false,
		&fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}:    false,
	} {
		if got := notHere(fmt.Errorf("stage: %w", err)); errors.Is(got, errNoNamespace) != only || !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// The mounts of a check of a thousand places do not fit into one argument.
func TestAStagedCheckOfManyPlaces(t *testing.T) {
	t.Parallel()
	from, over := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "staged"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mounts := slices.Repeat([]mount{{From: from, Over: over}}, 1000)
	if size := len(mounts) * len(from+over); size < 1<<17 {
		mounts = slices.Repeat(mounts, 1+(1<<17)/size)
	}
	for file, want := range map[string]bool{"staged": true, "other": false} {
		cmd, err := stagedCommand(mounts, []string{"/usr/bin/test", "-e", filepath.Join(over, file)})
		if err != nil {
			t.Fatal(err)
		}
		if err := noNamespace(execute(t.Context(), cmd)); (err == nil) != want || errors.Is(err, errNoNamespace) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
