package backup_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/certctl/certctl/store/backup"
)

func TestPruneKeepsTheNewestOfThisInstallation(t *testing.T) {
	t.Parallel()
	url, _ := installation(t)
	dir := t.TempDir()
	path, m, err := backup.Take(t.Context(), backup.Options{URL: url, Release: "test"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	prefix, suffix := "certctl-"+m.Installation.String()[24:]+"-", "-20200101T000000Z.backup"
	twin := m // made within the same minute: only what is random differs
	twin.Installation[15]++
	old := []string{prefix + "20200101T000000Z.backup", prefix + "20200102T000000Z.backup", prefix + "20200103T000000Z.backup"}
	others := []string{"certctl-" + twin.Installation.String()[24:] + suffix, "certctl-" + m.Installation.String()[:8] + suffix, prefix + "20200101T000000Z.backup.gpg", prefix + "mine.backup", "notes.txt"}
	for _, name := range slices.Concat(old, others) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone, err := backup.Prune(path, m, 2)
	if err != nil || !slices.Equal(gone, []string{filepath.Join(dir, old[0]), filepath.Join(dir, old[1])}) {
		t.Errorf("removed %v, %v", gone, err)
	}
	for _, name := range append(others, old[2], filepath.Base(path)) {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	for _, name := range old[:2] {
		if _, err := os.Stat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}
