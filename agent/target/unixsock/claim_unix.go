//go:build unix

package unixsock

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/certctl/certctl"
)

// suffixLock is of the file that is locked while somebody listens.
const suffixLock = ".lock"

// dialTime bounds the question whether somebody listens.
const dialTime = time.Second

// claim is the right to one path.
type claim struct {
	path string      // without symbolic links in its folder
	lock *os.File    // nil: it is only looked at
	made fs.FileInfo // the socket, once it is made
}

// claimPath makes the socket's folder, locks the path and removes what a process
// that was killed has left there.
func claimPath(ctx context.Context, path string) (*claim, error) {
	folder, err := makeFolder(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	c := &claim{path: filepath.Join(folder, filepath.Base(path))}
	if c.lock, err = lockFile(c.path+suffixLock, true); err != nil {
		return nil, err
	}
	stale, err := c.stale(ctx)
	if err == nil && stale {
		err = os.Remove(c.path)
	}
	if err != nil {
		return nil, errors.Join(err, c.release())
	}
	return c, nil
}

// Check reports whether Listen would do, and changes nothing.
func Check(ctx context.Context, path string) error {
	folder, err := checkFolder(existing(filepath.Dir(path)), filepath.Dir(path))
	if err != nil || !isThere(filepath.Dir(path)) {
		return err
	}
	c := &claim{path: filepath.Join(folder, filepath.Base(path))}
	lock, err := lockFile(c.path+suffixLock, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		defer lock.Close()
	}
	_, err = c.stale(ctx)
	return err
}

// lockFile locks a file, or says that somebody has. A file that was removed by who had
// the lock before is not the file any more.
func lockFile(path string, create bool) (*os.File, error) {
	flags := os.O_RDWR | syscall.O_NOFOLLOW
	if create {
		flags |= os.O_CREATE
	}
	for {
		file, err := os.OpenFile(path, flags, 0o600)
		if err != nil {
			return nil, certctl.Wrap(certctl.Unavailable, err, "the lock of the socket cannot be opened")
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(certctl.Errorf(certctl.Conflict, "another target or process of certctl has the socket, and has locked %s", path).
				WithRemedy("give each target a socket of its own, or end the other process"), file.Close())
		}
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		ours, err := file.Stat()
		if err == nil {
			if there, lookErr := os.Lstat(path); lookErr == nil && os.SameFile(ours, there) {
				return file, nil
			}
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
	}
}

// stale reports whether there is a socket at which nobody listens. What is none, or at
// which somebody does, or of which that cannot be told, is somebody's.
func (c *claim) stale(ctx context.Context) (bool, error) {
	info, err := os.Lstat(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, certctl.Wrap(certctl.Unavailable, err, "what is at the path of the socket cannot be seen")
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return false, certctl.Errorf(certctl.Conflict, "%s is there, and is no socket", c.path).
			WithRemedy("name another path, or move it away")
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.path)
	switch {
	case err == nil:
		return false, errors.Join(certctl.Errorf(certctl.Conflict, "somebody listens at %s already", c.path).
			WithRemedy("name another path, or end who listens there"), conn.Close())
	case errors.Is(err, syscall.ECONNREFUSED):
		return true, nil
	}
	return false, certctl.Wrap(certctl.Conflict, err, "whether somebody listens at %s cannot be told, so that it is left alone", c.path).
		WithRemedy("remove it, if nobody does")
}

// listen makes the socket. Until its mode is set it depends on the umask who can
// connect: who it is is asked all the same.
func (c *claim) listen(ctx context.Context, group int) (*net.UnixListener, error) {
	made, err := new(net.ListenConfig).Listen(ctx, "unix", c.path)
	if err != nil {
		return nil, err
	}
	listener, ok := made.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.ErrUnsupported, made.Close())
	}
	listener.SetUnlinkOnClose(false) // release does, if it is still this one
	err = os.Chmod(c.path, 0o600)
	if err == nil && group >= 0 {
		if err = os.Chown(c.path, -1, group); err == nil {
			err = os.Chmod(c.path, 0o660) //nolint:gosec // that group is to connect
		}
	}
	info, statErr := os.Lstat(c.path)
	if err := errors.Join(err, statErr); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(c.path))
	}
	c.made = info
	return listener, nil
}

// intact reports whether the path leads to the socket that was made.
func (c *claim) intact() bool {
	there, err := os.Lstat(c.path)
	return err == nil && c.made != nil && os.SameFile(there, c.made) && there.ModTime().Equal(c.made.ModTime())
}

// release removes the socket, if it is still the one that was made, and the lock.
func (c *claim) release() error {
	var err error
	if c.intact() {
		err = os.Remove(c.path)
	}
	// While it is locked: who opened it meanwhile sees that it is not the file any more.
	if lockErr := os.Remove(c.lock.Name()); lockErr != nil && !errors.Is(lockErr, fs.ErrNotExist) {
		err = errors.Join(err, lockErr)
	}
	return errors.Join(err, c.lock.Close())
}
