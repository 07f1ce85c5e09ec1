package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
)

// asideFolder holds the files of packages that cannot be installed, each in a folder
// of its name.
const asideFolder = "/opt/certctl"

// unpackAside gets a package and unpacks it where nothing else finds it. Its own
// scripts do not run: the user that they would make is made here.
func unpackAside(ctx context.Context, apt string, r Requirement) (err error) {
	if err := r.makeUser(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "certctl-aside-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	get := exec.CommandContext(ctx, apt, "download", r.Package)
	get.Dir = dir
	if output, err := get.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w:\n%s", r.Package, err, indent(string(output)))
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(archives) != 1 {
		return errors.Join(err, fmt.Errorf("apt-get download %s left %d files", r.Package, len(archives)))
	}
	folder := filepath.Join(asideFolder, r.Package)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if output, err := exec.CommandContext(ctx, "dpkg-deb", "-x", archives[0], folder).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w:\n%s", r.Package, err, indent(string(output)))
	}
	return dropSetuid(folder)
}

// dropSetuid leaves nobody a program that makes him somebody else.
func dropSetuid(folder string) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil || info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) == 0 {
			return err
		}
		return os.Chmod(path, info.Mode().Perm())
	})
}

// makeUser makes the user of a requirement, unless there is one.
func (r Requirement) makeUser(ctx context.Context) error {
	if r.User == "" {
		return nil
	}
	if _, err := user.Lookup(r.User); err == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", r.User)
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the user %s: %w:\n%s", r.User, err, indent(string(output)))
	}
	return nil
}

// findAside finds a program that is installed, or unpacked aside.
func findAside(debianPackage, name string) (string, error) {
	path, err := findDaemon(name, debianPackage)
	if err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(filepath.Join(asideFolder, debianPackage, "usr", "sbin", name)); err == nil {
		return path, nil
	}
	return "", err
}
