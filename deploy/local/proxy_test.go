package local_test

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echo returns a connection through a proxy to somebody who repeats everything.
func echo(t *testing.T) (*local.Proxy, net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // ends with the test
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 1)
		for {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			if _, err := conn.Write(buffer); err != nil {
				return
			}
		}
	}()
	port, err := local.FreePort()
	must(t, err)
	proxy := &local.Proxy{Network: "tcp", Listen: local.Loopback(port), Target: listener.Addr().String()}
	must(t, proxy.Start(t.Context()))
	t.Cleanup(func() { must(t, proxy.Stop(t.Context())) })
	conn, err := net.Dial("tcp", proxy.Listen) //nolint:noctx // loopback
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return proxy, conn
}

// hears sends a byte and reports whether it comes back in time.
func hears(t *testing.T, conn net.Conn, within time.Duration) bool {
	t.Helper()
	_, err := conn.Write([]byte{1})
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(within)))
	_, err = conn.Read(make([]byte, 1))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

func TestASilentProxyLosesNothingAndRefusesNothing(t *testing.T) {
	t.Parallel()
	proxy, conn := echo(t)
	if !hears(t, conn, 10*time.Second) {
		t.Fatal("no echo")
	}
	proxy.Silence()
	if hears(t, conn, 50*time.Millisecond) {
		t.Error("an echo out of the silence")
	}
	proxy.Heal()
	for range 2 { // of before and of now
		must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACutProxyEndsConnections(t *testing.T) {
	t.Parallel()
	proxy, conn := echo(t)
	if !hears(t, conn, 10*time.Second) {
		t.Fatal("no echo")
	}
	proxy.Cut()
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection goes on: %v", err)
	}
}
