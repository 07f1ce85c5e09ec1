//go:build unix

package unixsock

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/certctl/certctl"
)

// makeFolder makes the folder of a socket where it is missing, and returns its path
// without symbolic links.
func makeFolder(folder string) (string, error) {
	if _, err := checkFolder(existing(folder), folder); err != nil {
		return "", err
	}
	if !isThere(folder) {
		if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // others are to come as far as the socket
			return "", certctl.Wrap(certctl.Unavailable, err, "the folder of the socket cannot be made")
		}
		if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // likewise, whatever the umask is
			return "", err
		}
	}
	return checkFolder(folder, folder)
}

// checkFolder refuses a path on which anybody but root and this user could put another
// socket, or another folder, in the place of ours. Where the folder itself is not there
// yet, the nearest one above it is looked at. It returns that one without symbolic links.
func checkFolder(there, folder string) (string, error) {
	resolved, err := filepath.EvalSymlinks(there)
	if err != nil {
		return "", certctl.Wrap(certctl.Unavailable, err, "the folder of the socket cannot be seen")
	}
	for at := resolved; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return "", certctl.Wrap(certctl.Unavailable, err, "the folder of the socket cannot be seen")
		}
		if err := checkOne(at, info, at == resolved && there == folder); err != nil {
			return "", err
		}
		if at == filepath.Dir(at) {
			return resolved, nil
		}
	}
}

// checkOne looks at one folder. In one with the sticky bit others can make entries, and
// not move ours: good enough for those above the socket's own.
func checkOne(path string, info fs.FileInfo, own bool) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return certctl.Errorf(certctl.Conflict, "%s is no folder, and a socket is to be in it", path).WithRemedy("name another path")
	case !ok || stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
		return certctl.Errorf(certctl.Conflict, "%s belongs neither to root nor to the agent's user: its owner could put another socket in the place of ours", path).
			WithRemedy("chown root %s, or name another path", path)
	case info.Mode().Perm()&0o022 != 0 && (own || info.Mode()&fs.ModeSticky == 0):
		return certctl.Errorf(certctl.Conflict, "%s may be written to by others (mode %#o), who could put another socket in the place of ours", path, info.Mode().Perm()).
			WithRemedy("chmod go-w %s, or name another path", path)
	}
	return nil
}

// existing is the nearest folder, from a path upwards, that is there.
func existing(path string) string {
	for !isThere(path) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
	}
	return path
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
