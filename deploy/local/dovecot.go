package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Dovecot is a private Dovecot that speaks IMAP. It is started by root, since it
// gives its processes users of its own. Its fields are read by Start.
type Dovecot struct {
	// Config is what is added to the configuration: where the certificate is.
	Config string
	// Dir is a folder for the configuration, its state and the log.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

// dovecotConfig keeps everything in one folder.
const dovecotConfig = `base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/dovecot.log
instance_name = %[1]s
protocols = imap
listen = 127.0.0.1
service imap-login {
  chroot =
  inet_listener imap {
    port = %[2]s
  }
  inet_listener imaps {
    port = 0
  }
}
service anvil {
  chroot =
}
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}
`

// ConfigFile is the path of the configuration.
func (d *Dovecot) ConfigFile() string { return filepath.Join(d.Dir, "dovecot.conf") }

// PIDFile is the path of the file with the master's process id.
func (d *Dovecot) PIDFile() string { return filepath.Join(d.Dir, "run", "master.pid") }

// Kill ends Dovecot and its processes with SIGKILL.
func (d *Dovecot) Kill() { d.process.Kill() }

// Start starts Dovecot and returns when it takes connections.
func (d *Dovecot) Start(ctx context.Context) error {
	program, err := findDaemon("dovecot", "dovecot-imapd")
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(d.Listen, ":")
	if err := os.WriteFile(d.ConfigFile(), fmt.Appendf(nil, dovecotConfig+d.Config, d.Dir, port), 0o600); err != nil {
		return fmt.Errorf("prepare Dovecot: %w", err)
	}
	process, err := Start(Command{
		Args: []string{program, "-F", "-c", d.ConfigFile()}, LogFile: filepath.Join(d.Dir, "output.log"), Name: "Dovecot",
	})
	if err != nil {
		return err
	}
	if err := process.Ready(ctx, Accepts("tcp", d.Listen)); err != nil {
		process.Kill()
		return err
	}
	d.process = process
	return nil
}

// FindDoveconf returns the path of Dovecot's program that reads its configuration.
func FindDoveconf() (string, error) { return findDaemon("doveconf", "dovecot-imapd") }
