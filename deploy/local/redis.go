package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Redis is a private Redis that speaks TLS, and takes commands at a socket. Started
// by root it runs as the user redis. Its fields are read by Start.
type Redis struct {
	// Config is what is added to the configuration: where the certificate is.
	Config string
	// Dir is a folder for the configuration, the socket and the log.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

const redisConfig = `bind 127.0.0.1
port 0
tls-port %[2]s
tls-auth-clients no
dir %[1]s
unixsocket %[1]s/redis.sock
unixsocketperm 700
save ""
appendonly no
`

// ConfigFile is the path of the configuration.
func (r *Redis) ConfigFile() string { return filepath.Join(r.Dir, "redis.conf") }

// Socket is the path of the socket that takes commands.
func (r *Redis) Socket() string { return filepath.Join(r.Dir, "redis.sock") }

// Kill ends Redis with SIGKILL.
func (r *Redis) Kill() { r.process.Kill() }

// Start starts Redis and returns when it takes connections.
func (r *Redis) Start(ctx context.Context) error {
	program, err := FindRedis()
	if err != nil {
		return err
	}
	runAs, err := ownUser("redis", r.Dir)
	if err != nil {
		return fmt.Errorf("prepare Redis: %w", err)
	}
	_, port, _ := strings.Cut(r.Listen, ":")
	if err := os.WriteFile(r.ConfigFile(), fmt.Appendf(nil, redisConfig+r.Config, r.Dir, port), 0o644); err != nil { //nolint:gosec // its user reads it
		return fmt.Errorf("prepare Redis: %w", err)
	}
	r.process, err = startReady(ctx, Command{
		Args: []string{program, r.ConfigFile()}, Credential: runAs, Dir: "/", LogFile: filepath.Join(r.Dir, "output.log"), Name: "Redis",
	}, Accepts("tcp", r.Listen))
	return err
}

// FindRedis returns the path of Redis's server.
func FindRedis() (string, error) { return findDaemon("redis-server", "redis-server") }
