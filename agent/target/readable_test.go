package target

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/certctl/certctl"
)

func TestWhatADaemonsUserCanRead(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "certctl-readable-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	inner := filepath.Join(dir, "inner")
	path := filepath.Join(inner, "key")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(inner, 0o755), os.WriteFile(path, nil, 0o644)); err != nil { //nolint:gosec // what the test is about
		t.Fatal(err)
	}
	stranger := ownership{Owner: "54321"}
	for _, c := range []struct {
		folder, file os.FileMode
		can          bool
	}{{0o755, 0o644, true}, {0o711, 0o604, true}, {0o755, 0o640, false}, {0o700, 0o644, false}} {
		if err := errors.Join(os.Chmod(inner, c.folder), os.Chmod(path, c.file)); err != nil {
			t.Fatal(err)
		}
		if err := stranger.readable(path); (err == nil) != c.can || err != nil && certctl.ErrorCode(err) != certctl.Conflict {
			t.Errorf("%o in %o: %v", c.file, c.folder, err)
		}
	}
	if err := (ownership{Owner: "0"}).readable(path); err != nil {
		t.Errorf("root: %v", err)
	}
	if err := (ownership{Owner: "0"}).readable(path + "gone"); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("what is not there: %v", err)
	}
}
