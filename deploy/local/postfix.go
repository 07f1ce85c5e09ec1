package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Postfix is a private Postfix that speaks SMTP and delivers nothing. It is
// started by root, as its programs demand. Its fields are read by Start.
type Postfix struct {
	// Config is what is added to main.cf: where the certificate is.
	Config string
	// Dir is a folder for the configuration, the queue and the log; root's alone.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

// postfixMain keeps everything in one folder.
const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination =
local_recipient_maps =
alias_maps =
smtpd_relay_restrictions = reject
smtpd_tls_security_level = may
smtpd_client_connection_rate_limit = 0
`

// postfixMaster has the services that an SMTP session needs.
const postfixMaster = `%s inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`

// ConfigFile is the path of main.cf.
func (p *Postfix) ConfigFile() string { return filepath.Join(p.Dir, "etc", "main.cf") }

// Kill ends Postfix and its processes with SIGKILL.
func (p *Postfix) Kill() { p.process.Kill() }

// Start starts Postfix and returns when it takes connections.
func (p *Postfix) Start(ctx context.Context) error {
	program, err := FindPostfix()
	if err != nil {
		return err
	}
	if err := p.prepare(ctx); err != nil {
		return fmt.Errorf("prepare Postfix: %w", err)
	}
	// Its master daemon in the foreground, as its program starts it.
	process, err := Start(Command{
		Args: []string{program, "-c", filepath.Dir(p.ConfigFile()), "start-fg"}, LogFile: filepath.Join(p.Dir, "output.log"), Name: "Postfix",
	})
	if err != nil {
		return err
	}
	if err := process.Ready(ctx, Accepts("tcp", p.Listen)); err != nil {
		process.Kill()
		return err
	}
	p.process = process
	return nil
}

func (p *Postfix) prepare(ctx context.Context) error {
	for _, name := range []string{"etc", "queue", "data"} {
		if err := os.MkdirAll(filepath.Join(p.Dir, name), 0o755); err != nil {
			return err
		}
	}
	if output, err := exec.CommandContext(ctx, "chown", "postfix", filepath.Join(p.Dir, "data")).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	master := filepath.Join(filepath.Dir(p.ConfigFile()), "master.cf")
	if err := os.WriteFile(master, fmt.Appendf(nil, postfixMaster, strings.TrimSpace(p.Listen)), 0o644); err != nil { //nolint:gosec // its programs read it as other users
		return err
	}
	return os.WriteFile(p.ConfigFile(), fmt.Appendf(nil, postfixMain+p.Config, p.Dir), 0o644) //nolint:gosec // as above
}

// FindPostmap returns the path of its program for look-ups.
func FindPostmap() (string, error) { return findDaemon("postmap", "postfix") }

// FindPostfix returns Postfix's program.
func FindPostfix() (string, error) { return findDaemon("postfix", "postfix") }
