package local

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// MariaDB is a private MariaDB with an empty database. Started by root it runs as
// the user mysql, and root logs in at its socket. Its fields are read by Start.
type MariaDB struct {
	// Config is what is added to the server's options: where the certificate is.
	Config string
	// Dir is a folder for the options, the data, the socket and the log.
	Dir string
	// Listen is an address that must take connections before Start returns.
	Listen string

	process *Process
}

// mariadbConfig is small, since it holds nothing.
const mariadbConfig = `[client]
socket=%[1]s/my.sock
[mariadbd]
datadir=%[1]s/data
tmpdir=%[1]s
socket=%[1]s/my.sock
pid-file=%[1]s/my.pid
bind-address=127.0.0.1
port=%[2]s
max-connect-errors=1000000
innodb-flush-log-at-trx-commit=0
innodb-log-file-size=4M
innodb-buffer-pool-size=8M
aria-log-file-size=8M
innodb-fast-shutdown=2
`

// ConfigFile is the path of the options, of the server's and of clients'.
func (m *MariaDB) ConfigFile() string { return filepath.Join(m.Dir, "my.cnf") }

// Kill ends MariaDB with SIGKILL.
func (m *MariaDB) Kill() { m.process.Kill() }

// Start makes the database, starts MariaDB and returns when it takes connections.
func (m *MariaDB) Start(ctx context.Context) error {
	program, err := FindMariaDB()
	if err != nil {
		return err
	}
	runAs, err := ownUser("mysql", m.Dir)
	if err != nil {
		return fmt.Errorf("prepare MariaDB: %w", err)
	}
	_, port, _ := strings.Cut(m.Listen, ":")
	if err := os.WriteFile(m.ConfigFile(), fmt.Appendf(nil, mariadbConfig+m.Config, m.Dir, port), 0o644); err != nil { //nolint:gosec // its user reads it
		return fmt.Errorf("prepare MariaDB: %w", err)
	}
	if err := m.makeDatabase(ctx); err != nil {
		return err
	}
	m.process, err = startReady(ctx, Command{
		Args: []string{program, "--defaults-file=" + m.ConfigFile()}, Credential: runAs, Dir: "/", LogFile: filepath.Join(m.Dir, "output.log"), Name: "MariaDB",
	}, Accepts("tcp", m.Listen))
	return err
}

func (m *MariaDB) makeDatabase(ctx context.Context) error {
	install, err := findDaemon("mariadb-install-db", "mariadb-server")
	if err != nil {
		return err
	}
	args := []string{"--defaults-file=" + m.ConfigFile(), "--auth-root-authentication-method=socket", "--skip-test-db"}
	if os.Geteuid() == 0 {
		args = append(args, "--user=mysql")
	}
	if output, err := exec.CommandContext(ctx, install, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("make a database for MariaDB: %w:\n%s", err, indent(string(output)))
	}
	return nil
}

// FindMariaDB returns the path of MariaDB's server.
func FindMariaDB() (string, error) { return findDaemon("mariadbd", "mariadb-server") }

// FindMariaDBClient returns the path of its client.
func FindMariaDBClient() (string, error) { return findDaemon("mariadb", "mariadb-client") }
