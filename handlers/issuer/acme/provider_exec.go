package acme

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// execTimeout is how long a script may take.
const execTimeout = time.Minute

// script runs a program of the server's own folder:
//
//	<script> present|remove <record> <value>
//
// The folder is the operator's choice (CERTCTL_ACME_DNS_EXEC_DIR), the API names a
// file in it. Record and value are arguments, never a shell's text. Exit code 0 is
// success; present and remove may come again.
type script struct{ path string }

func openExec(c *CA, config map[string]string) (provider, error) {
	if c.execDir == "" {
		return nil, certctl.Errorf(certctl.Invalid, "this server runs no scripts: CERTCTL_ACME_DNS_EXEC_DIR is not set")
	}
	name := config["script"]
	if checkScript(name) != "" {
		return nil, certctl.Errorf(certctl.Invalid, "%q is not the name of a script", certctl.Clip(name, 64))
	}
	path := filepath.Join(c.execDir, name)
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, certctl.Wrap(certctl.Invalid, err, "there is no script %s in the folder of scripts", name)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return nil, certctl.Errorf(certctl.Invalid, "%s in the folder of scripts is not an executable file", name)
	case info.Mode().Perm()&0o022 != 0:
		return nil, certctl.Errorf(certctl.Invalid, "others than its owner may write to %s in the folder of scripts: chmod go-w", name)
	}
	return script{path}, nil
}

func (s script) Present(ctx context.Context, p proof) error {
	return s.run(ctx, "present", p.Record, p.Value)
}

func (s script) Remove(ctx context.Context, p proof) error {
	return s.run(ctx, "remove", p.Record, p.Value)
}

func (s script) run(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.path, args...) //nolint:gosec // the operator's own folder, see openExec
	cmd.Dir = filepath.Dir(s.path)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LANG=C.UTF-8"}
	cmd.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &limited{to: &said, left: 4 << 10}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return certctl.Wrap(certctl.Unavailable, err, "the script %s did not end within %s", filepath.Base(s.path), execTimeout)
	case errors.As(err, &exit):
		return certctl.Wrap(certctl.Unavailable, err, "the script %s ended with code %d: %s",
			filepath.Base(s.path), exit.ExitCode(), certctl.Clip(strings.TrimSpace(said.String()), 200))
	}
	return certctl.Wrap(certctl.Unavailable, err, "the script %s cannot be run", filepath.Base(s.path))
}

// limited keeps the beginning of what is written to it.
type limited struct {
	to   *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.to.Write(p[:n])
	l.left -= n
	return len(p), nil
}
