package local_test

import (
	"context"
	"fmt"
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
	for range 2 {
		if err := haproxy.Start(ctx); err != nil {
			t.Fatal(err)
		}
		if word := served(ctx, t, address); word != "here" {
			t.Errorf("served %q", word)
		}
		haproxy.Kill()
	}
}
