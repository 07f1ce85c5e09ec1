//go:build daemons && linux

package unixsock_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/unixsock"
)

// Users of the test, who need not exist.
const (
	allowed = 65531
	another = 65532
	group   = 65530
)

// dialAs connects as another user: a thread becomes him, connects, and ends.
func dialAs(ctx context.Context, uid, gid int, socket string) (net.Conn, error) {
	var conn net.Conn
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
			err = errno
			return
		}
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); errno != 0 {
			err = errno
			return
		}
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			err = errno
			return
		}
		conn, err = new(net.Dialer).DialContext(ctx, "unix", socket)
	}()
	<-done
	return conn, err
}

// The mode keeps others away from the socket, and the kernel's word those who pass.
func TestUsers(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	closed := listen(t, filepath.Join(dir, "closed"))
	if _, err := dialAs(t.Context(), allowed, group, closed.Addr().String()); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a socket of mode 0600: %v", err)
	}
	path := filepath.Join(dir, "socket")
	l, err := unixsock.Listen(t.Context(), unixsock.Config{Path: path, Group: group, Allowed: func(uid int) bool { return uid == allowed }})
	must(t, err)
	defer l.Close()
	if _, err := dialAs(t.Context(), allowed, another, path); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("who is not of the group: %v", err)
	}
	for uid, want := range map[int]certctl.Code{0: "", allowed: "", another: certctl.Denied} {
		conn, err := dialAs(t.Context(), uid, group, path)
		must(t, err)
		defer conn.Close()
		c := accept(t, l)
		if c.Peer.UID != uid || (c.Refusal == nil) != (want == "") || c.Refusal != nil && certctl.ErrorCode(c.Refusal) != want {
			t.Errorf("user %d: peer %+v, refusal %v", uid, c.Peer, c.Refusal)
		}
	}
}

// What one user has open takes nothing from another.
func TestOneUserLeavesRoomForAnother(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "socket")
	l, err := unixsock.Listen(t.Context(), unixsock.Config{Path: path, Group: group, Allowed: func(int) bool { return true }})
	must(t, err)
	defer l.Close()
	came := func(uid int) error {
		conn, err := dialAs(t.Context(), uid, group, path)
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return accept(t, l).Refusal
	}
	for range unixsock.MaxConnsPerUser {
		must(t, came(allowed))
	}
	if err := came(allowed); certctl.ErrorCode(err) != certctl.RateLimited {
		t.Errorf("one more: %v", err)
	}
	must(t, came(another))
	for uid := 60000; uid < 60000+unixsock.MaxConns/unixsock.MaxConnsPerUser-2; uid++ {
		for range unixsock.MaxConnsPerUser {
			must(t, came(uid))
		}
	}
	for range unixsock.MaxConnsPerUser - 1 {
		must(t, came(another))
	}
	if err := came(65000); certctl.ErrorCode(err) != certctl.RateLimited || !strings.Contains(err.Error(), "256 connections") {
		t.Errorf("one more of all: %v", err)
	}
}

// A folder of another user is his to change.
func TestFolderOfAnotherUser(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	theirs := filepath.Join(dir, "theirs")
	must(t, os.Mkdir(theirs, 0o755)) //nolint:gosec // so that only its owner is wrong
	must(t, os.Chown(theirs, another, another))
	refused(t, filepath.Join(theirs, "socket"), certctl.Conflict, "belongs neither to root")
	refused(t, filepath.Join(theirs, "new", "socket"), certctl.Conflict, "belongs neither to root")
}

// A socket that this process may not connect to is not one at which nobody listens.
func TestSocketThatCannotBeAskedIsLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "full")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	must(t, err)
	defer syscall.Close(fd)
	must(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	must(t, syscall.Listen(fd, 0))
	dial(t, path) // and nobody accepts: the queue is full, and the next one gets EAGAIN
	refused(t, path, certctl.Conflict, "cannot be told")
}
