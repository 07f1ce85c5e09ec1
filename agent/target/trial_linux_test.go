package target

import (
	"errors"
	"fmt"
	"io/fs"
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
