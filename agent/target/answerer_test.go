//go:build daemons && linux

package target_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// another is the id of a user who is neither root nor the agent.
const another = 65532

// listenAs listens as another user: a thread becomes him, listens, and ends.
func listenAs(ctx context.Context, uid int, socket string) (net.Listener, error) {
	var listener net.Listener
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			err = errno
			return
		}
		listener, err = new(net.ListenConfig).Listen(ctx, "unix", socket)
	}()
	<-done
	return listener, err
}

// HAProxy's socket is a setting: one at which another user listens gets no word, and
// above all no key.
func TestHAProxySocketOfAnotherUserIsSentNothing(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	must(t, os.Chown(dir, another, another))
	socket := filepath.Join(dir, "socket")
	d, _ := haproxyWith(t, func(settings map[string]any, _ string) { settings["control"] = socket })
	listener, err := listenAs(t.Context(), another, socket)
	must(t, err)
	defer listener.Close()
	must(t, os.Chown(socket, 0, 0)) // whose the file is tells nothing
	heard := make(chan string, 16)
	go func() {
		defer close(heard)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			said, _ := io.ReadAll(conn)
			heard <- string(said)
			_ = conn.Close()
		}
	}()
	r := apply(t, opened(t, d), certctl.OutcomeFailed, targettest.Installs(t, "shop", "shop.example.com")())
	if r.Code != "reload_failed" || !strings.Contains(r.Message, "listens at "+socket) || !strings.Contains(r.Message, "nothing was sent") || r.Remedy == "" {
		t.Errorf("receipt %+v", r)
	}
	must(t, listener.Close())
	connections := 0
	for said := range heard {
		if connections++; said != "" {
			t.Errorf("it was sent %q", said)
		}
	}
	if connections == 0 {
		t.Error("nobody connected: nothing was tried")
	}
}

// Where the system does not say who listens, whose the file and its folder are does.
func TestSocketFileOfAnotherUserIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		owner, folderOwner int
		mode, folderMode   os.FileMode
		want               string
	}{
		"root's":                     {0, 0, 0o660, 0o755, ""},
		"another's":                  {another, 0, 0o600, 0o755, "belongs neither"},
		"in another's folder":        {0, another, 0o600, 0o755, "belongs neither"},
		"everybody's":                {0, 0, 0o666, 0o755, "written to by others"},
		"in a folder of a group":     {0, 0, 0o600, 0o775, "written to by others"},
		"in a folder for everything": {0, 0, 0o600, 0o777, "written to by others"},
	} {
		dir := shortDir(t)
		socket := filepath.Join(dir, "socket")
		listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
		must(t, err)
		must(t, os.Chmod(socket, c.mode))
		must(t, os.Chown(socket, c.owner, -1))
		must(t, os.Chmod(dir, c.folderMode))
		must(t, os.Chown(dir, c.folderOwner, -1))
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", socket)
		must(t, err)
		err = target.AnswersForRoot(conn, socket)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
		must(t, conn.Close())
		must(t, listener.Close())
	}
}
