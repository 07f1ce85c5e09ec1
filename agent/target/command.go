package target

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/certctl/certctl"
)

// mount lays one folder over another in a private namespace.
type mount struct {
	From string `json:"from"`
	Over string `json:"over"`
}

// errNoNamespace means that the staged way of checking is not possible here.
var errNoNamespace = errors.New("no private mount namespace can be made")

// exitNoNamespace is how the staged check says so; no daemon's check exits so.
const exitNoNamespace = 213

// exitNotStaged is how a trial ends that could not be staged, or its check started.
const exitNotStaged = 214

// commandTimeout bounds a check or a reload; a check of many places has more time.
const (
	commandTimeout = 20 * time.Second
	checkPerPlace  = 50 * time.Millisecond
)

// check runs the daemon's check, with folders laid over others if there are any, and
// notes how long it took.
func (t *Target) check(ctx context.Context, mounts []mount) error {
	begun := time.Now()
	err := t.runCheck(ctx, mounts)
	if err == nil {
		t.checked = time.Since(begun)
	}
	return err
}

func (t *Target) runCheck(ctx context.Context, mounts []mount) error {
	argv := t.driver.check()
	if len(argv) == 0 {
		return nil
	}
	if err := t.env.Policy.AllowCommand(argv); err != nil {
		return err
	}
	if elsewhere, ok := t.driver.(runner); ok {
		if len(mounts) > 0 {
			return errNoNamespace
		}
		return elsewhere.run(ctx, argv)
	}
	patience := commandTimeout + time.Duration(t.places)*checkPerPlace
	if len(mounts) == 0 {
		return executeWithin(ctx, plainCommand(argv), patience)
	}
	cmd, err := stagedCommand(mounts, argv)
	if err != nil {
		return err
	}
	return noNamespace(executeWithin(ctx, cmd, patience))
}

func plainCommand(argv []string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec // the policy has allowed it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// execute runs a command and returns its own words when it fails. One that hangs
// is killed with everything it has started.
func execute(ctx context.Context, cmd *exec.Cmd) error {
	return executeWithin(ctx, cmd, commandTimeout)
}

func executeWithin(ctx context.Context, cmd *exec.Cmd, patience time.Duration) error {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		err = certctl.Wrap(certctl.Unavailable, <-done, "it did not end within %s and was killed", patience)
	}
	if err == nil {
		return nil
	}
	words := certctl.Clip(strings.TrimSpace(output.String()), maxMessage)
	return certctl.Wrap(certctl.Conflict, err, "%s: %s", cmd.Args[0], words)
}
