package backup

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/certctl/certctl"
)

// Programs finds PostgreSQL's own programs: in Folder, or without one the newest
// that the system's packages have installed, or those in PATH.
type Programs struct{ Folder string }

// packageFolders is where Debian keeps the programs of each major version.
const packageFolders = "/usr/lib/postgresql/*/bin"

var programVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// find returns the path of a program that is at least as new as the server: an
// older pg_dump refuses to work, and an older pg_restore does not understand.
func (p Programs) find(ctx context.Context, name string, server int) (string, error) {
	path, err := p.path(name)
	if err != nil {
		return "", certctl.Wrap(certctl.Unavailable, err, "%s is not installed", name).
			WithRemedy("install PostgreSQL's client programs of version %d or newer (Debian: apt-get install postgresql-client), or name their folder with --postgres-bin", server)
	}
	output, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", certctl.Wrap(certctl.Unavailable, err, "%s does not run", path)
	}
	match := programVersion.FindSubmatch(output)
	if match == nil {
		return "", certctl.Errorf(certctl.Unavailable, "%s does not say which version it is", path)
	}
	version, err := strconv.Atoi(string(match[1]))
	if err != nil || version < server {
		return "", certctl.Errorf(certctl.Conflict, "%s is of version %s, older than the server, which is of version %d", path, match[1], server).
			WithRemedy("install PostgreSQL's client programs of version %d or newer, or name their folder with --postgres-bin", server)
	}
	return path, nil
}

func (p Programs) path(name string) (string, error) {
	if p.Folder != "" {
		return exec.LookPath(filepath.Join(p.Folder, name))
	}
	folders, err := filepath.Glob(packageFolders)
	if err != nil {
		return "", err
	}
	newest, newestVersion := "", 0
	for _, folder := range folders {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
		if err != nil || version <= newestVersion {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			newest, newestVersion = path, version
		}
	}
	if newest != "" {
		return newest, nil
	}
	return exec.LookPath(name)
}

// run runs a program against the database. The password goes by environment:
// everybody on the machine reads command lines.
func (d database) run(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, append(args, "--dbname="+d.conninfo, "--no-password")...)
	cmd.Env = os.Environ()
	if d.password != "" {
		cmd.Env = append(cmd.Env, "PGPASSWORD="+d.password)
	}
	output, err := cmd.CombinedOutput()
	if err != nil {
		said := certctl.Clip(strings.TrimSpace(string(bytes.ToValidUTF8(output, nil))), 2000)
		return certctl.Wrap(certctl.Unavailable, err, "%s failed: %s", filepath.Base(program), said)
	}
	return nil
}
