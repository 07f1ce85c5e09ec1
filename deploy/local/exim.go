package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Exim is a private Exim that speaks SMTP and takes no mail. It is started by root,
// as it demands. Its fields are read by Start.
type Exim struct {
	// Config is what is added to the configuration: where the certificate is.
	Config string
	// Dir is a folder for the configuration, the spool and the log.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

const (
	eximPackage = "exim4-daemon-light"
	eximUser    = "Debian-exim"

	eximConfig = `keep_environment =
spool_directory = %[1]s/spool
log_file_path = %[1]s/%%s.log
pid_file_path = %[1]s/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = %[2]s
smtp_accept_max = 0
tls_advertise_hosts = *
`
)

// ConfigFile is the path of the configuration.
func (e *Exim) ConfigFile() string { return filepath.Join(e.Dir, "exim.conf") }

// Kill ends Exim with SIGKILL.
func (e *Exim) Kill() { e.process.Kill() }

// Start starts Exim and returns when it takes connections.
func (e *Exim) Start(ctx context.Context) error {
	program, err := FindExim()
	if err != nil {
		return err
	}
	if _, err := ownUser(eximUser, e.Dir); err != nil {
		return fmt.Errorf("prepare Exim: %w", err)
	}
	_, port, _ := strings.Cut(e.Listen, ":")
	if err := os.WriteFile(e.ConfigFile(), fmt.Appendf(nil, eximConfig+e.Config, e.Dir, port), 0o644); err != nil { //nolint:gosec // its user reads it
		return fmt.Errorf("prepare Exim: %w", err)
	}
	e.process, err = startReady(ctx, Command{
		Args: []string{program, "-C", e.ConfigFile(), "-bdf"}, Dir: "/", LogFile: filepath.Join(e.Dir, "output.log"), Name: "Exim",
	}, Accepts("tcp", e.Listen))
	return err
}

// FindExim returns Exim's path: the system's own, or of what was unpacked aside.
func FindExim() (string, error) { return findAside(eximPackage, "exim4") }
