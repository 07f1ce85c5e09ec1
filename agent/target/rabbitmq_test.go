//go:build daemons

package target_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// startRabbitMQ starts a real RabbitMQ with a certificate of its own. It takes the
// names of the files from its configuration once.
func startRabbitMQ(t *testing.T) *targettest.Daemon {
	t.Helper()
	port, err := local.FreePort()
	must(t, err)
	dir, first, directory := ownedHome(t, "rabbitmq")
	rabbit := &local.RabbitMQ{Dir: filepath.Join(dir, "rabbitmq"), Listen: local.Loopback(port)}
	must(t, os.Mkdir(rabbit.Dir, 0o700))
	link, toPlace, _ := named(t, dir, first, directory)
	rabbit.Config = fmt.Sprintf("ssl_options.certfile = %s/fullchain.pem\nssl_options.keyfile = %s/privkey.pem\n", link, link)
	must(t, rabbit.Start(t.Context()))
	t.Cleanup(rabbit.Kill)
	toPlace()
	good, err := os.ReadFile(rabbit.Control())
	must(t, err)
	// A node that cannot be told is one of another name.
	away := strings.ReplaceAll(string(good), rabbit.Node(), "away@localhost")
	return &targettest.Daemon{
		Spec: spec(t, "rabbitmq", map[string]any{
			"directory": directory, "binary": rabbit.Control(), "listen": []string{rabbit.Listen},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: rabbit.Listen, Complaint: "away@localhost",
		Break:  func() { rewrite(t, rabbit.Control(), away) },
		Repair: func() { rewrite(t, rabbit.Control(), string(good)) },
	}
}

// rewrite replaces a program, also one that is running.
func rewrite(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(content), 0o755)) //nolint:gosec // a program
	must(t, os.Rename(path+".new", path))
}

func TestRabbitMQ(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startRabbitMQ)
}

func TestRabbitMQSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"a relative program": `{"directory": "/srv/tls", "listen": [], "binary": "rabbitmqctl"}`,
		"an option as node":  `{"directory": "/srv/tls", "listen": [], "node": "-q@x"}`,
		"no node":            `{"directory": "/srv/tls", "listen": [], "node": "rabbit"}`,
		"a node unheard":     `{"directory": "/srv/tls", "listen": [], "node": "rabbit@web7", "reload": ["/bin/true"]}`,
		"an open key":        `{"directory": "/srv/tls", "listen": [], "key_mode": "0644"}`,
	} {
		if err := target.Validate("rabbitmq", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("rabbitmq", []byte(`{"directory": "/srv/tls", "listen": ["127.0.0.1:5671"], "node": "rabbit@web7"}`)))
}
