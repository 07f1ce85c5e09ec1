//go:build unix

package kek

import (
	"os"
	"path/filepath"
	"testing"
)

// Kubernetes mounts a Secret as files of root that the group of the pod may read.
func TestLoadTakesAFileThatAnotherUserGivesToOurGroup(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kek.key")
	if _, err := Load(CA, path, true); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(CA, path, false); err == nil {
		t.Error("a file of our own that the group may read passes")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	if err := os.Chown(path, 65534, os.Getegid()); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o440: true, 0o444: false, 0o460: false, 0o441: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(CA, path, false); (err == nil) != want {
			t.Errorf("mode %#o: %v", mode, err)
		}
	}
}
