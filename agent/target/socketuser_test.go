//go:build daemons && linux

package target_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// programUser is the id of a user who may have certificates, and of a group.
const programUser = 65531

// askerAs asks as another user, with the group of those who may: a thread becomes him,
// connects, and ends.
func askerAs(socket string, uid int) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var conn net.Conn
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // never unlocked: the thread ends with this function
			for _, call := range []struct{ trap, id uintptr }{{syscall.SYS_SETRESGID, programUser}, {syscall.SYS_SETRESUID, uintptr(uid)}} {
				if _, _, errno := syscall.RawSyscall(call.trap, call.id, call.id, call.id); errno != 0 {
					err = errno
					return
				}
			}
			conn, err = new(net.Dialer).DialContext(ctx, "unix", socket)
		}()
		<-done
		return conn, err
	}}}
}

// The key is for whom the settings and the policy name, and for nobody else, who is
// told so.
func TestSocketGivesKeysToItsUsersAlone(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	must(t, os.Chmod(dir, 0o755)) //nolint:gosec // others are to come as far as the socket
	settings := socketSettings(dir)
	settings["users"], settings["group"] = []string{strconv.Itoa(programUser)}, strconv.Itoa(programUser)
	opened := openSocket(t, settings)
	opened.Apply(t.Context(), []target.Install{targettest.Installs(t, "shop", "shop.example.com")()})
	socket := filepath.Join(dir, "socket")
	for uid, welcome := range map[int]bool{0: true, programUser: true, another: false} {
		for _, path := range []string{"/v1/certificates", "/v1/certificates/shop", "/v1/certificates/shop?format=pem", "/v1/certificates/shop?wait=60", "/"} {
			if welcome && path != "/v1/certificates/shop" {
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			status, got, err := call(ctx, askerAs(socket, uid), http.MethodGet, path, "", nil)
			cancel()
			must(t, err)
			if welcome && (status != http.StatusOK || got.Key == "") {
				t.Errorf("user %d: %d %s", uid, status, got.Detail)
			}
			if !welcome && (status != http.StatusForbidden || got.Key != "" || !strings.Contains(got.Detail, "none of those who may have certificates here") || got.Remedy == "") {
				t.Errorf("user %d, %s: %d %+v", uid, path, status, got)
			}
		}
	}
	status, got, err := call(t.Context(), askerAs(socket, another), http.MethodPost, "/v1/certificates/shop/report", "", map[string]string{"tag": "x", "error": "no"})
	if err != nil || status != http.StatusForbidden {
		t.Errorf("a report of another: %d %+v %v", status, got, err)
	}
}
