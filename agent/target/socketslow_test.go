package target_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/agent/target/unixsock"
)

// startLimited hands out one certificate, and gives nobody much time.
func startLimited(t *testing.T, limit time.Duration) (path string) {
	t.Helper()
	path = filepath.Join(shortDir(t), "socket")
	l, err := unixsock.Listen(t.Context(), unixsock.Config{Path: path, Group: -1})
	must(t, err)
	outlet := target.StartSocket(l, limit)
	t.Cleanup(func() {
		must(t, l.Close())
		<-outlet.Ended()
	})
	fullchain, key, err := target.PEM(targettest.Installs(t, "shop", "shop.example.com")())
	must(t, err)
	must(t, outlet.Offer([]target.Current{{Name: "shop", Fullchain: fullchain, Key: key}}, nil))
	return path
}

func dialSocket(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}

// Who says nothing, or breaks off in the middle, is not waited for.
func TestSocketDoesNotWaitForTheSilent(t *testing.T) {
	t.Parallel()
	request := "GET /v1/certificates/shop HTTP/1.1\r\nHost: agent\r\n\r\n"
	for name, says := range map[string]string{
		"nothing": "", "half a request": request[:40], "one request": request,
		"no body": "POST /v1/certificates/shop/report HTTP/1.1\r\nHost: agent\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dialSocket(t, startLimited(t, 2*time.Second))
			_, err := conn.Write([]byte(says))
			must(t, err)
			answer, err := io.ReadAll(conn)
			if err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
			if got := strings.Contains(string(answer), "PRIVATE KEY"); got != (name == "one request") {
				t.Errorf("answer %s", answer)
			}
		})
	}
}

// Who waits for the next certificate is not silent.
func TestSocketWaitsForTheNext(t *testing.T) {
	t.Parallel()
	path := startLimited(t, 2*time.Second)
	_, got, err := call(t.Context(), asker(path), http.MethodGet, "/v1/certificates/shop", "", nil)
	must(t, err)
	status, _, err := call(t.Context(), asker(path), http.MethodGet, "/v1/certificates/shop?wait=3", got.Tag, nil)
	if err != nil || status != http.StatusNotModified {
		t.Errorf("%d, %v", status, err)
	}
}

// Who asks for ever and never reads is cut off.
func TestSocketDoesNotWaitForWhoNeverReads(t *testing.T) {
	t.Parallel()
	conn := dialSocket(t, startLimited(t, 100*time.Millisecond))
	for {
		_, err := conn.Write([]byte("GET /v1/certificates/shop HTTP/1.1\r\nHost: agent\r\n\r\n"))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("it is waited for")
		}
		if err != nil {
			return
		}
	}
}

// Who has too many connections is told so on the next one.
func TestSocketSaysThatItIsTooMuch(t *testing.T) {
	t.Parallel()
	path := startLimited(t, time.Minute)
	for range unixsock.MaxConnsPerUser {
		dialSocket(t, path)
	}
	status, got, err := call(t.Context(), asker(path), http.MethodGet, "/v1/certificates/shop", "", nil)
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(got.Detail, "may have no more") || got.Remedy == "" || got.Key != "" {
		t.Errorf("%d %+v %v", status, got, err)
	}
}
