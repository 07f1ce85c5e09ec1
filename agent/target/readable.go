package target

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/certctl/certctl"
)

// readable says why the owner cannot read a file, by the modes of the file and of
// the folders above it. A daemon that stumbles over such a file is not asked to.
func (o ownership) readable(path string) error {
	followed, err := filepath.EvalSymlinks(path)
	if err != nil {
		return certctl.Wrap(certctl.Conflict, err, "%s is not there", path)
	}
	uid, groups, err := o.account()
	if err != nil || uid <= 0 { // root, or the agent's own user, who writes the files
		return err
	}
	if err := permitted(followed, 0o4, uid, groups); err != nil {
		return err
	}
	return o.passes(filepath.Dir(followed))
}

// account is the owner's id with his groups.
func (o ownership) account() (uid int, groups []string, err error) {
	if uid, err = o.uid(); err != nil || uid <= 0 {
		return uid, nil, err
	}
	if account, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		if groups, err = account.GroupIds(); err != nil {
			return uid, nil, err
		}
	}
	return uid, groups, nil
}

// passes says why the owner cannot reach what is in a folder.
func (o ownership) passes(folder string) error {
	uid, groups, err := o.account()
	if err != nil || uid <= 0 {
		return err
	}
	for ; ; folder = filepath.Dir(folder) {
		if err := permitted(folder, 0o1, uid, groups); err != nil || folder == "/" {
			return err
		}
	}
}

// permitted holds a right (4 to read, 1 to pass) against a path's mode.
func permitted(path string, right fs.FileMode, uid int, groups []string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	switch {
	case int(stat.Uid) == uid:
		right <<= 6
	case slices.Contains(groups, strconv.Itoa(int(stat.Gid))):
		right <<= 3
	}
	if info.Mode().Perm()&right == 0 {
		return certctl.Errorf(certctl.Conflict, "the daemon's user (id %d) cannot read what is in %s, whose mode is %#o", uid, path, info.Mode().Perm())
	}
	return nil
}
