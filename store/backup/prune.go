package backup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// The name of a backup in a folder is certctl-<installation>-<time>.backup, so
// that names are ordered by time.
const (
	stamp  = "20060102T150405Z"
	suffix = ".backup"
)

// prefixOf names an installation by the last digits of its id, which are random: the
// first ones are a time, and the same for all that are made within a minute.
func prefixOf(m Manifest) string {
	id := m.Installation.String()
	return "certctl-" + id[len(id)-12:] + "-"
}

// Prune removes all but the newest backups of an installation from the folder of
// the one that was just taken, and returns which. What has another name is left
// alone, as are the backups of other installations.
func Prune(taken string, m Manifest, keep int) ([]string, error) {
	dir := filepath.Dir(taken)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the folder of backups cannot be read")
	}
	var all []string
	for _, entry := range entries {
		when, ours := strings.CutPrefix(entry.Name(), prefixOf(m))
		when, named := strings.CutSuffix(when, suffix)
		if _, err := time.Parse(stamp, when); ours && named && err == nil && entry.Type().IsRegular() {
			all = append(all, filepath.Join(dir, entry.Name()))
		}
	}
	slices.Sort(all)
	former := all[:max(0, len(all)-keep)]
	for i, path := range former {
		if err := os.Remove(path); err != nil {
			return former[:i], certctl.Wrap(certctl.Unavailable, err, "an old backup cannot be removed")
		}
	}
	return former, nil
}
