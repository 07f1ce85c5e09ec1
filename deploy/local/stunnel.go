package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Stunnel is a private stunnel in front of nothing. Its fields are read by Start.
type Stunnel struct {
	// Config is what is added to its service: where the certificate is.
	Config string
	// Dir is a folder for the configuration and the log.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

const stunnelConfig = `foreground = yes
pid = %[1]s/stunnel.pid
[nothing]
accept = %[2]s
connect = 127.0.0.1:1
`

// ConfigFile is the path of the configuration.
func (s *Stunnel) ConfigFile() string { return filepath.Join(s.Dir, "stunnel.conf") }

// PIDFile is the path of the file with the process id.
func (s *Stunnel) PIDFile() string { return filepath.Join(s.Dir, "stunnel.pid") }

// Kill ends stunnel with SIGKILL.
func (s *Stunnel) Kill() { s.process.Kill() }

// Start starts stunnel and returns when it serves.
func (s *Stunnel) Start(ctx context.Context) error {
	program, err := FindStunnel()
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.ConfigFile(), fmt.Appendf(nil, stunnelConfig+s.Config, s.Dir, s.Listen), 0o600); err != nil {
		return fmt.Errorf("prepare stunnel: %w", err)
	}
	s.process, err = startReady(ctx, Command{
		Args: []string{program, s.ConfigFile()}, LogFile: filepath.Join(s.Dir, "output.log"), Name: "stunnel",
	}, ShakesHands(s.Listen))
	return err
}

// FindStunnel returns stunnel's path.
func FindStunnel() (string, error) { return findDaemon("stunnel4", "stunnel4") }
