//go:build unix

package unixsock_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/unixsock"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// folder is one for sockets, whose paths must be short.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "certctl-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755)) //nolint:gosec // others are to come as far as the socket
	return dir
}

func listen(t *testing.T, path string) *unixsock.Listener {
	t.Helper()
	l, err := unixsock.Listen(t.Context(), unixsock.Config{Path: path, Group: -1})
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}

func accept(t *testing.T, l *unixsock.Listener) *unixsock.Conn {
	t.Helper()
	conn, err := l.Accept()
	must(t, err)
	c, ok := conn.(*unixsock.Conn)
	if !ok {
		t.Fatalf("a connection is a %T", conn)
	}
	return c
}

// refused asserts that nobody can listen at a path, and why, also when it is only
// looked at; and that what is there stays as it is.
func refused(t *testing.T, path string, code certctl.Code, why string) {
	t.Helper()
	before, beforeErr := os.Lstat(path)
	_, err := unixsock.Listen(t.Context(), unixsock.Config{Path: path, Group: -1})
	for _, err := range []error{err, unixsock.Check(t.Context(), path)} {
		if certctl.ErrorCode(err) != code || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", path, err, why)
		}
	}
	after, afterErr := os.Lstat(path)
	if (beforeErr == nil) != (afterErr == nil) || beforeErr == nil && !os.SameFile(before, after) {
		t.Errorf("%s was touched", path)
	}
}

// The kernel says who came. The end of the listener is that of its connections and of
// its files.
func TestListen(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	path := filepath.Join(dir, "new", "folder", "socket")
	must(t, unixsock.Check(t.Context(), path))
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("a look has made %v, %v", entries, err)
	}
	l := listen(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	client := dial(t, path)
	c := accept(t, l)
	if c.Peer.UID != os.Geteuid() || c.Refusal != nil {
		t.Errorf("peer %+v, refusal %v", c.Peer, c.Refusal)
	}
	must(t, l.Close())
	if said, err := io.ReadAll(client); err != nil || len(said) > 0 {
		t.Errorf("%q, %v", said, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	must(t, l.Close())
	if _, err := l.Accept(); err == nil || l.Intact() {
		t.Errorf("after its end: %v", err)
	}
}

func TestGroupMayConnect(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "socket")
	l, err := unixsock.Listen(t.Context(), unixsock.Config{Path: path, Group: os.Getegid()})
	must(t, err)
	defer l.Close()
	info, err := os.Stat(path)
	must(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm() != 0o660 || int(stat.Gid) != os.Getegid() {
		t.Errorf("mode %v, %+v", info.Mode(), stat)
	}
}

// What a process that was killed has left is made anew. What somebody else has is not
// touched, and one who has it still is told at once.
func TestOnlyWhatIsLeftIsTaken(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	left := filepath.Join(dir, "left")
	gone, err := new(net.ListenConfig).Listen(t.Context(), "unix", left)
	must(t, err)
	gone.(*net.UnixListener).SetUnlinkOnClose(false)
	must(t, gone.Close())
	must(t, unixsock.Check(t.Context(), left))
	l := listen(t, left)
	dial(t, left)
	accept(t, l)

	refused(t, left, certctl.Conflict, "another target or process of certctl has the socket")
	listening := filepath.Join(dir, "listening")
	other, err := new(net.ListenConfig).Listen(t.Context(), "unix", listening)
	must(t, err)
	defer other.Close()
	refused(t, listening, certctl.Conflict, "somebody listens")
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("somebody's"), 0o600))
	refused(t, file, certctl.Conflict, "is no socket")
}

// A socket that does not answer in time is not one at which nobody listens.
func TestSilenceIsNobodysLeave(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "busy")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0) // connect gives EPROTOTYPE
	must(t, err)
	defer syscall.Close(fd)
	must(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	refused(t, path, certctl.Conflict, "cannot be told")
}

// After the socket was replaced by hand its end does not take the new one along.
func TestCloseLeavesAnotherSocketAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "socket")
	l := listen(t, path)
	if !l.Intact() {
		t.Error("it is not intact")
	}
	must(t, os.Remove(path))
	other, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	must(t, err)
	defer other.Close()
	if l.Intact() {
		t.Error("the path leads elsewhere")
	}
	must(t, l.Close())
	dial(t, path)
}

// A folder in which others could put a socket of theirs is refused.
func TestFoldersOfOthers(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	open := filepath.Join(dir, "open")
	must(t, os.Mkdir(open, 0o700))
	must(t, os.Chmod(open, 0o777)) //nolint:gosec // on purpose
	refused(t, filepath.Join(open, "socket"), certctl.Conflict, "may be written to by others")
	must(t, os.Chmod(open, 0o777|os.ModeSticky)) //nolint:gosec // on purpose
	refused(t, filepath.Join(open, "socket"), certctl.Conflict, "may be written to by others")
	listen(t, filepath.Join(open, "ours", "socket")) // nobody else can move what is ours there
	must(t, os.Chmod(open, 0o770))                   //nolint:gosec // on purpose
	refused(t, filepath.Join(open, "other", "socket"), certctl.Conflict, "may be written to by others")
	must(t, os.Symlink(open, filepath.Join(dir, "link")))
	refused(t, filepath.Join(dir, "link", "socket"), certctl.Conflict, "may be written to by others")
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	refused(t, filepath.Join(dir, "file", "socket"), certctl.Conflict, "is no folder")
}

// One user has his share and no more, is told so, and gets it back when he closes.
func TestConnectionsOfAUserAreBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "socket")
	l := listen(t, path)
	var first *unixsock.Conn
	for range unixsock.MaxConnsPerUser {
		dial(t, path)
		c := accept(t, l)
		if c.Refusal != nil {
			t.Fatal(c.Refusal)
		}
		if first == nil {
			first = c
		}
	}
	client := dial(t, path)
	over := accept(t, l)
	if certctl.ErrorCode(over.Refusal) != certctl.RateLimited || !strings.Contains(over.Refusal.Error(), "may have no more") {
		t.Fatalf("refusal %v", over.Refusal)
	}
	// It lives for as long as it takes to say so, whatever deadline the protocol sets.
	must(t, over.SetReadDeadline(time.Now().Add(time.Hour)))
	must(t, over.SetWriteDeadline(time.Time{}))
	must(t, over.SetDeadline(time.Time{}))
	if _, err := over.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Errorf("a refused one still waits: %v", err)
	}
	must(t, over.Close())
	if _, err := client.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // as it comes from a socket
		t.Errorf("%v", err)
	}
	must(t, first.Close())
	_ = first.Close() // a second time it counts no more
	for _, want := range []certctl.Code{"", certctl.RateLimited} {
		dial(t, path)
		if c := accept(t, l); c.Refusal == nil != (want == "") || c.Refusal != nil && certctl.ErrorCode(c.Refusal) != want {
			t.Errorf("refusal %v, want %q", c.Refusal, want)
		}
	}
}

// A flood of those who are refused is dropped.
func TestRefusedConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "socket")
	l := listen(t, path)
	for range unixsock.MaxConnsPerUser {
		dial(t, path)
		accept(t, l)
	}
	told := make(chan *unixsock.Conn, 100)
	go func() {
		defer close(told)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			told <- conn.(*unixsock.Conn) //nolint:forcetypeassert // see Listener
		}
	}()
	for range 40 {
		dial(t, path)
	}
	last := dial(t, path)
	if said, err := io.ReadAll(last); err != nil || len(said) > 0 {
		t.Errorf("the last of a flood: %q, %v", said, err)
	}
	must(t, l.Close())
	n := 0
	for c := range told {
		if n++; certctl.ErrorCode(c.Refusal) != certctl.RateLimited {
			t.Errorf("refusal %v", c.Refusal)
		}
	}
	if n != 32 {
		t.Errorf("%d were told", n)
	}
}
