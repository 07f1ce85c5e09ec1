package target

import (
	"errors"
	"io/fs"
	"os"
)

// Disk holds a target's files: this node's, or another host's. Paths are absolute.
// Its errors are those of package os, as far as errors.Is goes: what is not there
// is an fs.ErrNotExist.
type Disk interface {
	DiskReader
	DiskWriter
}

// DiskReader reads. Mode follows links.
type DiskReader interface {
	ReadDir(path string) (names []string, err error)
	ReadFile(path string) ([]byte, error)
	ReadLink(path string) (string, error)
	Mode(path string) (fs.FileMode, error)
}

// DiskWriter writes. Nothing that it makes can be looked into by others before it
// has been granted to them.
type DiskWriter interface {
	// MakeDirs makes a folder for all to pass, with those above it.
	MakeDirs(path string) error
	// MakeDir makes a folder that was not there.
	MakeDir(path string) error
	// WriteFile makes a file that was not there; it is synced when it returns.
	WriteFile(path string, content []byte) error
	// Grant sets owner and group (-1: as they are) and mode.
	Grant(path string, uid, gid int, mode fs.FileMode) error
	// Symlink makes a link that was not there.
	Symlink(to, path string) error
	// Rename is atomic, and replaces what was there.
	Rename(from, to string) error
	Remove(path string) error
	// RemoveAll removes what there is, which may be nothing.
	RemoveAll(path string) error
	// Sync makes a folder's entries last, as far as that can be asked for.
	Sync(dir string) error
}

// localDisk is this node's.
type localDisk struct{}

// LocalDisk is this node's disk.
func LocalDisk() Disk { return localDisk{} }

var _ Disk = localDisk{}

func (localDisk) ReadDir(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, err
}

func (localDisk) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }
func (localDisk) ReadLink(path string) (string, error) { return os.Readlink(path) }

func (localDisk) Mode(path string) (fs.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Mode(), nil
}

func (localDisk) MakeDirs(path string) error { return os.MkdirAll(path, 0o755) }
func (localDisk) MakeDir(path string) error  { return os.Mkdir(path, 0o700) }

func (localDisk) WriteFile(path string, content []byte) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(content)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

func (localDisk) Grant(path string, uid, gid int, mode fs.FileMode) error {
	if uid >= 0 || gid >= 0 {
		if err := os.Chown(path, uid, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}

func (localDisk) Symlink(to, path string) error { return os.Symlink(to, path) }
func (localDisk) Rename(from, to string) error  { return os.Rename(from, to) }
func (localDisk) Remove(path string) error      { return os.Remove(path) }
func (localDisk) RemoveAll(path string) error   { return os.RemoveAll(path) }

func (localDisk) Sync(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
