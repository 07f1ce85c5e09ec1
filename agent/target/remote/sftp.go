package remote

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/pkg/sftp"
)

// maxRead bounds what is read of a host's file.
const maxRead = 1 << 20

// sftpDisk is the disk of a host as its user may use it. A folder cannot be synced
// over SFTP: after a power cut of the host a switch may be undone, but not half.
type sftpDisk struct{ session *session }

var _ target.Disk = sftpDisk{}

func (d sftpDisk) ReadDir(path string) ([]string, error) {
	entries, err := call(d.session, path, func(c *sftp.Client) ([]os.FileInfo, error) { return c.ReadDir(path) })
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, err
}

func (d sftpDisk) ReadFile(path string) ([]byte, error) {
	return call(d.session, path, func(c *sftp.Client) ([]byte, error) {
		in, err := c.Open(path)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		content, err := io.ReadAll(io.LimitReader(in, maxRead+1))
		if err == nil && len(content) > maxRead {
			err = certctl.Errorf(certctl.Conflict, "it has more than %d bytes", maxRead)
		}
		return content, err
	})
}

func (d sftpDisk) ReadLink(path string) (string, error) {
	return call(d.session, path, func(c *sftp.Client) (string, error) {
		if info, err := c.Lstat(path); err != nil {
			return "", err
		} else if info.Mode()&fs.ModeSymlink == 0 {
			return "", syscall.EINVAL // as package os says it
		}
		return c.ReadLink(path)
	})
}

func (d sftpDisk) Mode(path string) (fs.FileMode, error) {
	return call(d.session, path, func(c *sftp.Client) (fs.FileMode, error) {
		info, err := c.Stat(path)
		if err != nil {
			return 0, err
		}
		return info.Mode(), nil
	})
}

// MakeDirs gives each folder its mode by itself: the host's umask may be another.
func (d sftpDisk) MakeDirs(folder string) error {
	mode, err := d.Mode(folder)
	switch {
	case err == nil && mode.IsDir():
		return nil
	case err == nil:
		return &hostError{d.session.host, folder, syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent := path.Dir(folder); parent != folder {
		if err := d.MakeDirs(parent); err != nil {
			return err
		}
	}
	return d.makeDir(folder, 0o755)
}

// MakeDir makes an empty folder, which the host lets others into for a moment:
// nothing is in it before it is closed to them, and who looked in stays outside.
func (d sftpDisk) MakeDir(path string) error { return d.makeDir(path, 0o700) }

func (d sftpDisk) makeDir(path string, mode fs.FileMode) error {
	return do(d.session, path, func(c *sftp.Client) error {
		if err := c.Mkdir(path); err != nil {
			return err
		}
		return c.Chmod(path, mode)
	})
}

// WriteFile closes the file to others while it is empty.
func (d sftpDisk) WriteFile(path string, content []byte) error {
	return do(d.session, path, func(c *sftp.Client) error {
		out, err := c.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
		if err != nil {
			return err
		}
		err = out.Chmod(0o600)
		if err == nil {
			_, err = out.Write(content)
		}
		if err == nil {
			err = out.Sync()
		}
		return errors.Join(err, out.Close())
	})
}

// Grant changes the owner first: a mode for a group is not for the one before.
func (d sftpDisk) Grant(path string, uid, gid int, mode fs.FileMode) error {
	return do(d.session, path, func(c *sftp.Client) error {
		if uid >= 0 || gid >= 0 {
			info, err := c.Stat(path)
			if err != nil {
				return err
			}
			have, ok := info.Sys().(*sftp.FileStat)
			if !ok {
				return errors.New("the host does not say whose it is")
			}
			// SFTP changes both or none.
			if uid < 0 {
				uid = int(have.UID)
			}
			if gid < 0 {
				gid = int(have.GID)
			}
			if err := c.Chown(path, uid, gid); err != nil {
				return err
			}
		}
		return c.Chmod(path, mode)
	})
}

func (d sftpDisk) Symlink(to, path string) error {
	return do(d.session, path, func(c *sftp.Client) error { return c.Symlink(to, path) })
}

func (d sftpDisk) Rename(from, to string) error {
	return do(d.session, to, func(c *sftp.Client) error { return c.PosixRename(from, to) })
}

func (d sftpDisk) Remove(path string) error {
	return do(d.session, path, func(c *sftp.Client) error { return c.Remove(path) })
}

func (d sftpDisk) RemoveAll(path string) error {
	return do(d.session, path, func(c *sftp.Client) error {
		if err := c.RemoveAll(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// Sync cannot be asked of SFTP.
func (sftpDisk) Sync(string) error { return nil }
