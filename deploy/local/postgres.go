package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// postgresSuperuser is the role that owns the cluster. Whoever may open the
	// socket's folder may take it.
	postgresSuperuser = "postgres"

	// postgresPort names the socket; nothing listens on it.
	postgresPort = "5432"

	postgresGrace = time.Minute
)

// Postgres is a private PostgreSQL cluster that is reachable through a unix
// socket only. Its settings are read by Start; its methods belong to one
// goroutine.
//
// PostgreSQL refuses to run as root. Started by root it runs as the user
// postgres; if he cannot reach Dir (a clone under a 0700 home), the cluster
// lives in /var/lib/certctl/<hash of Dir> and the file Dir+".path" says so.
// Started by anyone else it runs as him.
type Postgres struct {
	// Databases are created together with the cluster.
	Databases []string
	// Dir is the cluster's folder. Its parent is made if it is missing.
	Dir string
	// Durable is whether a commit survives a crash of the machine. Tests that
	// do not pull the plug are several times faster without.
	Durable bool
	// Settings are added to the server's own, and win.
	Settings map[string]string

	process *Process
	home    home
}

// Start makes the cluster if there is none, and starts it. It returns when the
// server takes connections.
func (p *Postgres) Start(ctx context.Context) error {
	if p.process != nil && p.process.running() {
		return errors.New("PostgreSQL is running already")
	}
	binaries, err := findPostgres()
	if err != nil {
		return err
	}
	p.home, err = settle(ctx, p.Dir)
	if err != nil {
		return fmt.Errorf("find a folder for PostgreSQL: %w", err)
	}
	if err := p.ensureCluster(ctx, binaries); err != nil {
		return fmt.Errorf("make the PostgreSQL cluster: %w", err)
	}
	return p.startServer(ctx, binaries)
}

// DataDir is the cluster's data folder, once it has been started.
func (p *Postgres) DataDir() string { return p.home.data() }

// Own gives a file to the user that the server runs as.
func (p *Postgres) Own(path string) error {
	if p.home.credential == nil {
		return nil
	}
	return os.Chown(path, int(p.home.credential.Uid), int(p.home.credential.Gid))
}

// Reload has the server read its configuration again.
func (p *Postgres) Reload() error { return p.process.Signal(syscall.SIGHUP) }

// startServer starts the server, again if a predecessor that was killed still
// has a connection that is about to notice.
func (p *Postgres) startServer(ctx context.Context, binaries string) error {
	for {
		process, err := Start(p.command(binaries))
		if err != nil {
			return err
		}
		err = process.Ready(ctx, p.ready(process))
		if err == nil {
			p.process = process
			return nil
		}
		if process.running() {
			process.Kill()
			return err
		}
		if ctx.Err() != nil || !strings.Contains(process.Log(), "pre-existing shared memory block") {
			return err
		}
	}
}

func (p *Postgres) command(binaries string) Command {
	args := []string{filepath.Join(binaries, "postgres"), "-D", p.home.data(), "-p", postgresPort}
	settings := p.settings()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	return Command{
		Args:       args,
		Credential: p.home.credential,
		Dir:        "/",
		Grace:      postgresGrace,
		LogFile:    filepath.Join(p.home.dir, "log"),
		Name:       "PostgreSQL",
		StopSignal: syscall.SIGINT, // "fast": ends the sessions, then writes all out
	}
}

func (p *Postgres) settings() map[string]string {
	settings := map[string]string{
		"listen_addresses":        "",
		"max_connections":         "200",
		"unix_socket_directories": `"` + strings.ReplaceAll(p.home.socket, `"`, `""`) + `"`,
		"unix_socket_permissions": "0700",
	}
	if !p.Durable {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
		settings["synchronous_commit"] = "off"
	}
	maps.Copy(settings, p.Settings)
	return settings
}

// ready is a probe that reads the server's state from its pid file, which costs
// no connection. The file of a killed predecessor bears another process id.
func (p *Postgres) ready(process *Process) func(context.Context) error {
	return func(context.Context) error {
		content, err := os.ReadFile(filepath.Join(p.home.data(), "postmaster.pid"))
		if err != nil {
			return err
		}
		lines := strings.Split(string(content), "\n")
		if lines[0] != strconv.Itoa(process.PID()) {
			return errors.New("the server has not begun")
		}
		const statusLine = 7
		if len(lines) <= statusLine || strings.TrimSpace(lines[statusLine]) != "ready" {
			return errors.New("the server is still starting")
		}
		return nil
	}
}

// DSN is the connection URL of a database. It is valid once Start has returned.
func (p *Postgres) DSN(database string) string {
	query := url.Values{"host": {p.home.socket}, "port": {postgresPort}, "sslmode": {"disable"}}
	// libpq does not read "+" as a space.
	return "postgres://" + postgresSuperuser + "@/" + url.PathEscape(database) +
		"?" + strings.ReplaceAll(query.Encode(), "+", "%20")
}

// Done is closed when the server has ended.
func (p *Postgres) Done() <-chan struct{} { return p.process.Done() }

// Kill ends the server with SIGKILL, like a crash of the machine without the
// loss of what the kernel has not written.
func (p *Postgres) Kill() { p.process.Kill() }

// Name is the name used in messages.
func (p *Postgres) Name() string { return "PostgreSQL" }

// PID is the server's process id.
func (p *Postgres) PID() int { return p.process.PID() }

// Stop ends the sessions and the server, and leaves a clean cluster.
func (p *Postgres) Stop(ctx context.Context) error {
	if p.process == nil {
		return nil
	}
	return p.process.Stop(ctx)
}

// StopImmediate ends the server without a checkpoint, so that the next start has
// to recover: PostgreSQL's own imitation of a crash.
func (p *Postgres) StopImmediate(ctx context.Context) error {
	return p.process.stopWith(ctx, syscall.SIGQUIT)
}

// Remove deletes the stopped cluster.
func (p *Postgres) Remove() error {
	if p.process != nil && p.process.running() {
		return errors.New("PostgreSQL is running: stop it before removing its cluster")
	}
	var failures []error
	for _, path := range slices.Compact([]string{p.Dir, p.home.dir, p.home.socket, p.Dir + movedSuffix}) {
		if path != "" {
			failures = append(failures, os.RemoveAll(path))
		}
	}
	return errors.Join(failures...)
}
