package local_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/certctl/certctl/deploy/local"
)

const haproxyConfig = `defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend demo
    bind %s
    http-request return status 200 content-type text/plain string "here"
`

func TestHAProxyServesAndStartsAgainAfterAKill(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	port, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := local.Loopback(port)
	haproxy := &local.HAProxy{
		Config: fmt.Sprintf(haproxyConfig, address),
		Dir:    t.TempDir(),
		Listen: address,
	}
	for range 4 {
		if err := haproxy.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if word := served(ctx, t, address); word != "here" {
			t.Errorf("served %q", word)
		}
		haproxy.Kill()
		// A worker that outlives its master still takes connections, only to
		// reset them.
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatalf("the port of a killed HAProxy: %v", err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
