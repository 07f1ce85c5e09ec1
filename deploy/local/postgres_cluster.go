package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// minPostgres is the oldest major version of PostgreSQL that certctl supports.
const minPostgres = 15

// errNoPostgres says what to do; [Install] does it.
var errNoPostgres = fmt.Errorf("PostgreSQL %d or newer is not installed: "+
	"install your system's package (Debian: apt-get install postgresql)", minPostgres)

var postgresVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// findPostgres returns the folder of the newest server's programs: Debian keeps
// them out of PATH, one folder per major version.
func findPostgres() (string, error) {
	folders, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", fmt.Errorf("look for PostgreSQL: %w", err)
	}
	newest, newestVersion := "", minPostgres-1
	for _, folder := range folders {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
		if err == nil && version > newestVersion && hasServer(folder) {
			newest, newestVersion = folder, version
		}
	}
	if newest != "" {
		return newest, nil
	}
	return postgresInPath()
}

func hasServer(folder string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(folder, program)); err != nil {
			return false
		}
	}
	return true
}

func postgresInPath() (string, error) {
	program, err := exec.LookPath("postgres")
	if err != nil {
		return "", errNoPostgres
	}
	output, err := exec.Command(program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask PostgreSQL for its version: %w", err)
	}
	match := postgresVersion.FindSubmatch(output)
	if match == nil {
		return "", errNoPostgres
	}
	if version, err := strconv.Atoi(string(match[1])); err != nil || version < minPostgres {
		return "", errNoPostgres
	}
	return filepath.Dir(program), nil
}

// ensureCluster makes the cluster under another name and renames it, so that one
// whose making was interrupted is never taken for complete.
func (p *Postgres) ensureCluster(ctx context.Context, binaries string) error {
	_, err := os.Stat(p.home.data())
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	unfinished := p.home.data() + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := p.initialize(ctx, binaries, unfinished); err != nil {
		return err
	}
	if err := p.createDatabases(ctx, binaries, unfinished); err != nil {
		return err
	}
	return os.Rename(unfinished, p.home.data())
}

func (p *Postgres) initialize(ctx context.Context, binaries, data string) error {
	args := []string{
		"-D", data, "-U", postgresSuperuser, "-E", "UTF8", "--locale=C.UTF-8",
		// Who may open the socket is decided by the folder it is in: 0700, of the
		// database's user. ("peer" would refuse root.)
		"--auth-local=trust", "--auth-host=reject",
		"--data-checksums",
	}
	if !p.Durable {
		args = append(args, "--no-sync")
	}
	return p.runAsOwner(ctx, "", filepath.Join(binaries, "initdb"), args...)
}

// createDatabases uses the server's single-user mode, which needs no client.
func (p *Postgres) createDatabases(ctx context.Context, binaries, data string) error {
	if len(p.Databases) == 0 {
		return nil
	}
	var statements strings.Builder
	for _, name := range p.Databases {
		statements.WriteString(`create database "` + strings.ReplaceAll(name, `"`, `""`) + "\"\n")
	}
	args := []string{"--single", "-D", data, "-c", "exit_on_error=on"}
	if !p.Durable {
		args = append(args, "-c", "fsync=off")
	}
	return p.runAsOwner(ctx, statements.String(), filepath.Join(binaries, "postgres"), append(args, "postgres")...)
}

// runAsOwner runs a program to its end as the cluster's owner.
func (p *Postgres) runAsOwner(ctx context.Context, input, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader(input)
	cmd.SysProcAttr = sysProcAttr(syscall.SIGTERM)
	cmd.SysProcAttr.Credential = p.home.credential
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w:\n%s", filepath.Base(program), err, bytes.TrimSpace(output))
	}
	return nil
}
