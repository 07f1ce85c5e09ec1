package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Mosquitto is a private Mosquitto that speaks TLS. Started by root it runs as the
// user mosquitto. Its fields are read by Start.
type Mosquitto struct {
	// Config is what is added to the configuration: where the certificate is.
	Config string
	// Dir is a folder for the configuration and the log.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

const mosquittoConfig = `pid_file %[1]s/mosquitto.pid
log_dest stderr
allow_anonymous true
listener %[2]s 127.0.0.1
`

// ConfigFile is the path of the configuration.
func (m *Mosquitto) ConfigFile() string { return filepath.Join(m.Dir, "mosquitto.conf") }

// PIDFile is the path of the file with the process id.
func (m *Mosquitto) PIDFile() string { return filepath.Join(m.Dir, "mosquitto.pid") }

// Kill ends Mosquitto with SIGKILL.
func (m *Mosquitto) Kill() { m.process.Kill() }

// Start starts Mosquitto and returns when it serves: it listens before it has a pid
// file, and has one before it can bear a signal.
func (m *Mosquitto) Start(ctx context.Context) error {
	program, err := FindMosquitto()
	if err != nil {
		return err
	}
	runAs, err := ownUser("mosquitto", m.Dir)
	if err != nil {
		return fmt.Errorf("prepare Mosquitto: %w", err)
	}
	_, port, _ := strings.Cut(m.Listen, ":")
	if err := os.WriteFile(m.ConfigFile(), fmt.Appendf(nil, mosquittoConfig+m.Config, m.Dir, port), 0o644); err != nil { //nolint:gosec // its user reads it
		return fmt.Errorf("prepare Mosquitto: %w", err)
	}
	m.process, err = startReady(ctx, Command{
		Args: []string{program, "-c", m.ConfigFile()}, Credential: runAs, Dir: "/", LogFile: filepath.Join(m.Dir, "output.log"), Name: "Mosquitto",
	}, ShakesHands(m.Listen))
	return err
}

// FindMosquitto returns Mosquitto's path.
func FindMosquitto() (string, error) { return findDaemon("mosquitto", "mosquitto") }
