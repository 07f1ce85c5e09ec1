package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Lighttpd is a private lighttpd that speaks TLS. Its fields are read by Start.
type Lighttpd struct {
	// Config is what is added to the configuration: where the certificate is.
	Config string
	// Dir is a folder for the configuration and the log.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

const lighttpdConfig = `server.modules = ("mod_openssl")
server.document-root = "%[1]s"
server.errorlog = "%[1]s/error.log"
server.pid-file = "%[1]s/lighttpd.pid"
server.bind = "127.0.0.1"
server.port = %[2]s
ssl.engine = "enable"
`

// ConfigFile is the path of the configuration.
func (l *Lighttpd) ConfigFile() string { return filepath.Join(l.Dir, "lighttpd.conf") }

// PIDFile is the path of the file with the process id.
func (l *Lighttpd) PIDFile() string { return filepath.Join(l.Dir, "lighttpd.pid") }

// Kill ends lighttpd with SIGKILL.
func (l *Lighttpd) Kill() { l.process.Kill() }

// Start starts lighttpd and returns when it takes connections.
func (l *Lighttpd) Start(ctx context.Context) error {
	program, err := findDaemon("lighttpd", "lighttpd")
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(l.Listen, ":")
	if err := os.WriteFile(l.ConfigFile(), fmt.Appendf(nil, lighttpdConfig+l.Config, l.Dir, port), 0o600); err != nil {
		return fmt.Errorf("prepare lighttpd: %w", err)
	}
	process, err := Start(Command{Args: []string{program, "-D", "-f", l.ConfigFile()}, LogFile: filepath.Join(l.Dir, "output.log"), Name: "lighttpd"})
	if err != nil {
		return err
	}
	if err := process.Ready(ctx, Accepts("tcp", l.Listen)); err != nil {
		process.Kill()
		return err
	}
	l.process = process
	return nil
}

// FindLighttpd returns lighttpd's path, when its module for TLS is there, too.
func FindLighttpd() (string, error) {
	found, err := filepath.Glob("/usr/lib/lighttpd/mod_openssl.so")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("lighttpd's module for TLS is not installed: apt-get install lighttpd-mod-openssl")
	}
	return findDaemon("lighttpd", "lighttpd-mod-openssl")
}
