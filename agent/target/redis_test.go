//go:build daemons

package target_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
	"github.com/certctl/certctl/deploy/local"
)

// startRedis starts a real Redis with a certificate and a password of its own. It is
// told of the place's files by the first installation.
func startRedis(t *testing.T) *targettest.Daemon {
	t.Helper()
	port, err := local.FreePort()
	must(t, err)
	dir, first, directory := ownedHome(t, "redis")
	redis := &local.Redis{Dir: filepath.Join(dir, "redis"), Listen: local.Loopback(port)}
	must(t, os.Mkdir(redis.Dir, 0o700))
	redis.Config = fmt.Sprintf("requirepass \"%s\"\ntls-cert-file %s/fullchain.pem\ntls-key-file %s/privkey.pem\n", redisPassword, first, first)
	must(t, redis.Start(t.Context()))
	t.Cleanup(redis.Kill)
	password := filepath.Join(dir, "password")
	must(t, os.WriteFile(password, []byte(redisPassword+"\n"), 0o600))
	return &targettest.Daemon{
		Spec: spec(t, "redis", map[string]any{
			"directory": directory, "control": redis.Socket(), "password_file": password, "listen": []string{redis.Listen},
		}),
		Directory: directory, Policy: anything{}, Single: true, Address: redis.Listen, Complaint: "Unable to update TLS configuration",
		Break: hide(t, directory), Repair: show(t, directory),
		Unname: func() {
			must(t, tellRedis(t, redis.Socket(), "CONFIG SET tls-cert-file "+first+"/fullchain.pem tls-key-file "+first+"/privkey.pem"))
		},
	}
}

const redisPassword = "a secret that no error shows"

// tellRedis sends a command as somebody else would.
func tellRedis(t *testing.T, socket, command string) error {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", socket)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	for _, line := range []string{"AUTH \"" + redisPassword + "\"", command} {
		_, err = fmt.Fprintf(conn, "%s\r\n", line)
		must(t, err)
		answer := make([]byte, 512)
		n, err := conn.Read(answer)
		must(t, err)
		if string(answer[:n]) != "+OK\r\n" {
			return fmt.Errorf("%s", answer[:n])
		}
	}
	return nil
}

func TestRedis(t *testing.T) {
	t.Parallel()
	targettest.Run(t, startRedis)
}

func TestRedisSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]string{
		"another machine":         `{"directory": "/srv/tls", "listen": [], "control": "192.0.2.1:6379"}`,
		"a socket somewhere":      `{"directory": "/srv/tls", "listen": [], "control": "redis.sock"}`,
		"a user without password": `{"directory": "/srv/tls", "listen": [], "user": "certctl"}`,
		"a password in settings":  `{"directory": "/srv/tls", "listen": [], "password": "secret"}`,
	} {
		if err := target.Validate("redis", []byte(settings)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, target.Validate("redis", []byte(`{"directory": "/srv/tls", "listen": ["127.0.0.1:6380"], "control": "localhost:6379", "user": "certctl", "password_file": "/etc/certctl/redis"}`)))
}
