package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Nginx is a private nginx. Its fields are read by Start; its methods belong to
// one goroutine.
type Nginx struct {
	// Config is the complete configuration; [NginxConfig] renders one. Start
	// writes it to [Nginx.ConfigFile], unless it is empty: then the file that is
	// there is used.
	Config string
	// Dir is a folder for the configuration, the pid file, the log and nginx's
	// temporary files. It is made if it is missing.
	Dir string
	// Listen is an address that must take connections before Start returns.
	// Empty: nginx is ready when it has opened its listeners, if there are any.
	Listen string

	process *Process
}

// nginxTempPaths are the folders that nginx makes at start, by default in places
// that only root may write to.
var nginxTempPaths = []string{"client_body", "fastcgi", "proxy", "scgi", "uwsgi"}

// NginxConfig renders a configuration that keeps everything in dir and takes its
// server blocks from the files that match include, for example
// "/srv/tls/*/current/*.conf". A pattern that matches nothing is no error.
func NginxConfig(dir, include string) string {
	var config strings.Builder
	if os.Geteuid() == 0 {
		// Nothing but loopback is served, and the folder may lie where another
		// user could not reach it.
		config.WriteString("user root;\n")
	}
	fmt.Fprintf(&config, "pid %q;\n", nginxPIDFile(dir))
	config.WriteString("worker_processes 1;\nevents {\n    worker_connections 256;\n}\nhttp {\n")
	config.WriteString("    access_log off;\n    error_log stderr;\n")
	for _, name := range nginxTempPaths {
		fmt.Fprintf(&config, "    %s_temp_path %q;\n", name, filepath.Join(dir, "temp-"+name))
	}
	fmt.Fprintf(&config, "    include %q;\n}\n", include)
	return config.String()
}

// ConfigFile is the path of the configuration.
func (n *Nginx) ConfigFile() string { return filepath.Join(n.Dir, "nginx.conf") }

// Done is closed when nginx has ended.
func (n *Nginx) Done() <-chan struct{} { return n.process.Done() }

// Kill ends nginx and its workers with SIGKILL.
func (n *Nginx) Kill() { n.process.Kill() }

// Log is the end of what nginx has logged.
func (n *Nginx) Log() string { return n.process.Log() }

// Name is the name used in messages.
func (n *Nginx) Name() string { return "nginx" }

// PIDFile is the path of the file with the master's process id.
func (n *Nginx) PIDFile() string { return nginxPIDFile(n.Dir) }

func nginxPIDFile(dir string) string { return filepath.Join(dir, "nginx.pid") }

// PID is the master's process id.
func (n *Nginx) PID() int { return n.process.PID() }

// Reload asks nginx to read its configuration again. nginx answers with its log
// only: a refused configuration leaves the old one in force.
func (n *Nginx) Reload() error { return n.process.Signal(syscall.SIGHUP) }

// Start starts nginx and returns when its listeners are open.
func (n *Nginx) Start(ctx context.Context) error {
	if n.process != nil && n.process.running() {
		return errors.New("nginx is running already")
	}
	program, err := FindNginx()
	if err != nil {
		return err
	}
	if err := n.prepare(); err != nil {
		return fmt.Errorf("prepare nginx: %w", err)
	}
	process, err := Start(Command{
		Args:    []string{program, "-p", n.Dir, "-e", "stderr", "-c", n.ConfigFile(), "-g", "daemon off; error_log stderr notice;"},
		LogFile: filepath.Join(n.Dir, "nginx.log"),
		Name:    n.Name(),
	})
	if err != nil {
		return err
	}
	if err := process.Ready(ctx, n.ready(process)); err != nil {
		process.Kill()
		return err
	}
	n.process = process
	return nil
}

// Stop ends nginx and its workers at once, closing open connections.
func (n *Nginx) Stop(ctx context.Context) error {
	if n.process == nil {
		return nil
	}
	return n.process.Stop(ctx)
}

func (n *Nginx) prepare() error {
	if err := os.MkdirAll(n.Dir, 0o711); err != nil {
		return err
	}
	if n.Config == "" {
		return nil
	}
	return os.WriteFile(n.ConfigFile(), []byte(n.Config), 0o600)
}

// ready is a probe. nginx writes its pid file after it has opened its listeners,
// but until it starts its workers it forgets what it is signalled: it notes the
// signal, and then waits for another one.
func (n *Nginx) ready(process *Process) func(context.Context) error {
	return func(ctx context.Context) error {
		content, err := os.ReadFile(n.PIDFile())
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(content)) != strconv.Itoa(process.PID()) {
			return errors.New("the listeners are not open yet")
		}
		if !strings.Contains(process.Log(), "start worker process") {
			return errors.New("it has no workers yet")
		}
		if n.Listen == "" {
			return nil
		}
		return Accepts("tcp", n.Listen)(ctx)
	}
}

// FindNginx returns nginx's path; Debian keeps it out of a user's PATH.
func FindNginx() (string, error) { return findDaemon("nginx", "nginx-light") }

// findDaemon looks for a program in PATH and where distributions put daemons.
func findDaemon(name, debianPackage string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, folder := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: install your system's package (Debian: apt-get install %s)",
		name, debianPackage)
}
