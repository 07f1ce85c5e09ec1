package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// NATS is an external NATS server, with a configuration that `certctl-server bus
// init` wrote. Its fields are read by Start; its methods belong to one goroutine.
type NATS struct {
	// Binary is the path of nats-server.
	Binary string
	// Config is the path of the configuration.
	Config string
	// Listen is the address for clients that the configuration names.
	Listen string

	process *Process
}

// NATSPackage is the program, as [Build] takes it; its version is that of the
// module's own dependency.
const NATSPackage = "github.com/nats-io/nats-server/v2"

// NATSBinary is where [Build] puts the program into a folder.
func NATSBinary(folder string) string { return filepath.Join(folder, "nats-server") }

// Start starts the server and returns when it accepts connections.
func (n *NATS) Start(ctx context.Context) error {
	if n.process != nil && n.process.running() {
		return errors.New("nats-server is running already")
	}
	if _, err := os.Stat(n.Config); err != nil {
		return fmt.Errorf("find the configuration of nats-server: %w", err)
	}
	process, err := Start(Command{
		Name: n.Name(), Args: []string{n.Binary, "-c", n.Config}, LogFile: filepath.Join(filepath.Dir(n.Config), "nats.log"),
	})
	if err != nil {
		return err
	}
	n.process = process
	return process.Ready(ctx, func(ctx context.Context) error {
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", n.Listen)
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

// Name is the name used in messages.
func (n *NATS) Name() string { return "nats-server" }

// Process is the running child.
func (n *NATS) Process() *Process { return n.process }

// Done is closed when the server has ended.
func (n *NATS) Done() <-chan struct{} { return n.process.Done() }

// Stop asks the server to end and waits for it.
func (n *NATS) Stop(ctx context.Context) error { return n.process.Stop(ctx) }

// Kill ends the server with SIGKILL.
func (n *NATS) Kill() { n.process.Kill() }
