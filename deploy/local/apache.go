package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Apache is a private Apache httpd. Its fields are read by Start; its methods
// belong to one goroutine.
type Apache struct {
	// Dir is a folder for the configuration, the pid file and the log.
	Dir string
	// Listen is the address that it listens on. What is served there, TLS or not,
	// say the files of Include.
	Listen string
	// Include is a pattern of files with virtual hosts; none need be there.
	Include string

	process *Process
}

// ConfigFile is the path of the configuration.
func (a *Apache) ConfigFile() string { return filepath.Join(a.Dir, "apache.conf") }

// PIDFile is the path of the file with the parent's process id.
func (a *Apache) PIDFile() string { return filepath.Join(a.Dir, "apache.pid") }

// Kill ends Apache and its children with SIGKILL.
func (a *Apache) Kill() { a.process.Kill() }

// Start writes the configuration, starts Apache and returns when it takes
// connections.
func (a *Apache) Start(ctx context.Context) error {
	program, err := FindApache()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.Dir, 0o711); err != nil {
		return err
	}
	if err := os.WriteFile(a.ConfigFile(), []byte(a.config()), 0o600); err != nil {
		return fmt.Errorf("write Apache's configuration: %w", err)
	}
	process, err := Start(Command{
		Args:    []string{program, "-f", a.ConfigFile(), "-DFOREGROUND"},
		LogFile: filepath.Join(a.Dir, "apache.log"),
		Name:    "Apache",
	})
	if err != nil {
		return err
	}
	if err := process.Ready(ctx, a.ready); err != nil {
		process.Kill()
		return err
	}
	a.process = process
	return nil
}

// ready is a probe. Apache listens before it has written its pid file.
func (a *Apache) ready(ctx context.Context) error {
	if _, err := os.Stat(a.PIDFile()); err != nil {
		return err
	}
	return Accepts("tcp", a.Listen)(ctx)
}

// apacheModules are those that are needed to serve TLS, from Debian's folder.
var apacheModules = []string{"mpm_event", "authz_core", "socache_shmcb", "ssl"}

func (a *Apache) config() string {
	var config strings.Builder
	fmt.Fprintf(&config, "ServerRoot %q\nPidFile %q\nDefaultRuntimeDir %q\nServerName localhost\nListen %s\n", a.Dir, a.PIDFile(), a.Dir, a.Listen)
	fmt.Fprintf(&config, "ErrorLog %q\n", filepath.Join(a.Dir, "error.log"))
	for _, module := range apacheModules {
		fmt.Fprintf(&config, "LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", module, module)
	}
	if os.Geteuid() == 0 {
		config.WriteString("User www-data\nGroup www-data\n") // its children are never root's
	}
	fmt.Fprintf(&config, "SSLSessionCache none\nIncludeOptional %q\n", a.Include)
	return config.String()
}

// FindApache returns the path of Apache httpd.
func FindApache() (string, error) { return findDaemon("apache2", "apache2") }
