package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// HAProxy is a private HAProxy in master-worker mode. Its fields are read by
// Start; its methods belong to one goroutine.
type HAProxy struct {
	// Config is the complete configuration. Start writes it to
	// [HAProxy.ConfigFile], unless it is empty: then the file that is there is
	// used.
	Config string
	// Dir is a folder for the configuration and the log. It is made if missing.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

// ConfigFile is the path of the configuration.
func (h *HAProxy) ConfigFile() string { return filepath.Join(h.Dir, "haproxy.cfg") }

// Done is closed when HAProxy has ended.
func (h *HAProxy) Done() <-chan struct{} { return h.process.Done() }

// Kill ends HAProxy and its workers with SIGKILL.
func (h *HAProxy) Kill() { h.process.Kill() }

// Name is the name used in messages.
func (h *HAProxy) Name() string { return "HAProxy" }

// PID is the master's process id.
func (h *HAProxy) PID() int { return h.process.PID() }

// Reload asks the master to start a worker with the configuration as it is now.
// HAProxy answers with its log only: a refused one leaves the old in force.
func (h *HAProxy) Reload() error { return h.process.Signal(syscall.SIGUSR2) }

// Start starts HAProxy and returns when it takes connections.
func (h *HAProxy) Start(ctx context.Context) error {
	if h.process != nil && h.process.running() {
		return errors.New("HAProxy is running already")
	}
	program, err := FindHAProxy()
	if err != nil {
		return err
	}
	if err := h.prepare(); err != nil {
		return fmt.Errorf("prepare HAProxy: %w", err)
	}
	process, err := Start(Command{
		Args:    []string{program, "-W", "-db", "-f", h.ConfigFile()},
		LogFile: filepath.Join(h.Dir, "haproxy.log"),
		Name:    h.Name(),
	})
	if err != nil {
		return err
	}
	if err := process.Ready(ctx, Accepts("tcp", h.Listen)); err != nil {
		process.Kill()
		return err
	}
	h.process = process
	return nil
}

// Stop ends HAProxy and its workers at once, closing open connections.
func (h *HAProxy) Stop(ctx context.Context) error {
	if h.process == nil {
		return nil
	}
	return h.process.Stop(ctx)
}

func (h *HAProxy) prepare() error {
	if err := os.MkdirAll(h.Dir, 0o711); err != nil {
		return err
	}
	if h.Config == "" {
		return nil
	}
	return os.WriteFile(h.ConfigFile(), []byte(h.Config), 0o600)
}

// FindHAProxy returns HAProxy's path; Debian keeps it out of a user's PATH.
func FindHAProxy() (string, error) { return findDaemon("haproxy", "haproxy") }
