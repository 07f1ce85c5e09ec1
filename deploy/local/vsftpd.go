package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Vsftpd is a private vsftpd that speaks FTP and lets nobody in. It is started by
// root, as it demands. Its fields are read by Start.
type Vsftpd struct {
	// Config is what is added to the configuration: where the certificate is.
	Config string
	// Dir is a folder for the configuration and the log.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

const vsftpdConfig = `listen=YES
listen_address=127.0.0.1
listen_port=%[2]s
background=NO
anonymous_enable=NO
local_enable=YES
ssl_enable=YES
secure_chroot_dir=%[1]s/empty
max_clients=0
max_per_ip=0
`

// ConfigFile is the path of the configuration.
func (v *Vsftpd) ConfigFile() string { return filepath.Join(v.Dir, "vsftpd.conf") }

// Kill ends vsftpd with SIGKILL.
func (v *Vsftpd) Kill() { v.process.Kill() }

// Start starts vsftpd and returns when it takes connections. It may be called again
// after Kill.
func (v *Vsftpd) Start(ctx context.Context) error {
	program, err := FindVsftpd()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(v.Dir, "empty"), 0o755); err != nil {
		return fmt.Errorf("prepare vsftpd: %w", err)
	}
	_, port, _ := strings.Cut(v.Listen, ":")
	if err := os.WriteFile(v.ConfigFile(), fmt.Appendf(nil, vsftpdConfig+v.Config, v.Dir, port), 0o600); err != nil {
		return fmt.Errorf("prepare vsftpd: %w", err)
	}
	v.process, err = startReady(ctx, Command{
		Args: []string{program, v.ConfigFile()}, LogFile: filepath.Join(v.Dir, "output.log"), Name: "vsftpd",
	}, Accepts("tcp", v.Listen))
	return err
}

// FindVsftpd returns vsftpd's path.
func FindVsftpd() (string, error) { return findDaemon("vsftpd", "vsftpd") }
