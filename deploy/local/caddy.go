package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Caddy is a private Caddy, administered at a socket. Started by root it runs as the
// user caddy. Its fields are read by Start.
type Caddy struct {
	// Config is what is added to its site: where the certificate is.
	Config string
	// Dir is a folder for the configuration, the socket and the log.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

const caddyConfig = `{
	admin unix/%[1]s/admin.sock
	auto_https off
	storage file_system %[1]s/storage
}
https://:%[2]s {
	bind 127.0.0.1
	respond "served by certctl"
	%[3]s
}
`

// ConfigFile is the path of the configuration.
func (c *Caddy) ConfigFile() string { return filepath.Join(c.Dir, "Caddyfile") }

// Kill ends Caddy with SIGKILL.
func (c *Caddy) Kill() { c.process.Kill() }

// Start starts Caddy and returns when it takes connections.
func (c *Caddy) Start(ctx context.Context) error {
	program, err := FindCaddy()
	if err != nil {
		return err
	}
	runAs, err := ownUser("caddy", c.Dir)
	if err != nil {
		return fmt.Errorf("prepare Caddy: %w", err)
	}
	_, port, _ := strings.Cut(c.Listen, ":")
	if err := os.WriteFile(c.ConfigFile(), fmt.Appendf(nil, caddyConfig, c.Dir, port, c.Config), 0o644); err != nil { //nolint:gosec // its user reads it
		return fmt.Errorf("prepare Caddy: %w", err)
	}
	c.process, err = startReady(ctx, Command{
		Args: []string{program, "run", "--config", c.ConfigFile()}, Credential: runAs, Dir: "/", Env: []string{"HOME=" + c.Dir},
		LogFile: filepath.Join(c.Dir, "output.log"), Name: "Caddy",
	}, Accepts("tcp", c.Listen))
	return err
}

// FindCaddy returns Caddy's path.
func FindCaddy() (string, error) { return findDaemon("caddy", "caddy") }
