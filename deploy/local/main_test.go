package local_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

const (
	// childVariable makes the test binary play a child; see TestMain.
	childVariable = "CERTCTL_TEST_CHILD"

	testTimeout = time.Minute
)

// TestMain lets the test binary be started again as the program under test.
func TestMain(m *testing.M) {
	if role := os.Getenv(childVariable); role != "" {
		os.Exit(child(role))
	}
	os.Exit(m.Run())
}

// scratch is a folder that other users can pass through, unlike t.TempDir's.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "certctl-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// self is a command that runs this test binary as a child in the given role.
func self(t *testing.T, role string) local.Command {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return local.Command{
		Args:    []string{program},
		Env:     []string{childVariable + "=" + role},
		LogFile: filepath.Join(t.TempDir(), "log"),
		Name:    role,
	}
}

func stopAtEnd(t *testing.T, service local.Service) {
	t.Helper()
	t.Cleanup(func() {
		if err := service.Stop(t.Context()); err != nil && !strings.Contains(err.Error(), "was killed") {
			t.Error(err)
		}
	})
}
