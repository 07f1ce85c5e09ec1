package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// defaultGrace is how long Stop waits before it kills.
	defaultGrace = 15 * time.Second

	probeInterval = 5 * time.Millisecond
	probeTimeout  = 2 * time.Second

	// groupPatience is how long the last member of a killed group may take to
	// disappear. One that has left the group is not waited for any longer.
	groupPatience = 2 * time.Second

	// logTail is how much of a log an error quotes.
	logTail = 2048
)

// Command says what to run and how to end it.
type Command struct {
	// Args are the program and its arguments.
	Args []string
	// Credential is the user to run as; nil means the caller's.
	Credential *syscall.Credential
	// Dir is the working directory; empty means the caller's.
	Dir string
	// Env is added to the caller's environment.
	Env []string
	// Grace is how long Stop waits for the end before it kills; 0 means 15 s.
	Grace time.Duration
	// LogFile receives standard output and error, appended.
	LogFile string
	// Name is used in messages.
	Name string
	// StopSignal asks the program to end; 0 means SIGTERM.
	StopSignal syscall.Signal
}

// Process is a running child. Its methods may be called from any goroutine.
type Process struct {
	command Command
	cmd     *exec.Cmd
	alive   *os.File // ends when the last that came of the process has ended
	done    chan struct{}
	err     error // written before done is closed
	logFrom int64 // where this run's part of the log begins
}

// Start runs a program in a process group of its own. The program may not be
// ready yet: see [Process.Ready].
func Start(command Command) (*Process, error) {
	if command.StopSignal == 0 {
		command.StopSignal = syscall.SIGTERM
	}
	if command.Grace == 0 {
		command.Grace = defaultGrace
	}

	log, err := openLog(command.LogFile)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", command.Name, err)
	}
	defer log.Close()

	logFrom, err := log.Seek(0, 2)
	if err != nil {
		return nil, fmt.Errorf("read the log of %s: %w", command.Name, err)
	}

	cmd := exec.Command(command.Args[0], command.Args[1:]...)
	cmd.Dir = command.Dir
	cmd.Env = append(os.Environ(), command.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = sysProcAttr(command.StopSignal)
	cmd.SysProcAttr.Credential = command.Credential

	alive, inherited, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Name, err)
	}
	defer inherited.Close()
	cmd.ExtraFiles = []*os.File{inherited}

	process := &Process{command: command, cmd: cmd, alive: alive, done: make(chan struct{}), logFrom: logFrom}
	started := make(chan error, 1)
	go process.run(started)
	if err := <-started; err != nil {
		_ = alive.Close() // why nothing was started says more
		return nil, fmt.Errorf("start %s: %w", command.Name, err)
	}
	return process, nil
}

func openLog(path string) (*os.File, error) {
	if path == "" {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// Done is closed when the process has ended and been waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the process ended; nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Kill ends the process and its group with SIGKILL and waits for it. It is no
// error if it has ended before.
func (p *Process) Kill() {
	if p.running() {
		killGroup(p.PID())
	}
	<-p.done
}

// Log returns the end of what this run has written to its log.
func (p *Process) Log() string {
	content, err := os.ReadFile(p.command.LogFile)
	if err != nil || int64(len(content)) < p.logFrom {
		return ""
	}
	content = content[p.logFrom:]
	if len(content) > logTail {
		content = content[len(content)-logTail:]
	}
	return string(bytes.TrimSpace(content))
}

// Name is the command's name.
func (p *Process) Name() string { return p.command.Name }

// PID is the process id, which is also the id of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ready waits until probe returns nil. It fails when the process ends first or
// the context does, quoting the probe's last error and the log.
func (p *Process) Ready(ctx context.Context, probe func(context.Context) error) error {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()

	for {
		err := p.probe(ctx, probe)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.failure("ended before it was ready", p.err)
		case <-ctx.Done():
			return p.failure("is not ready", errors.Join(ctx.Err(), err))
		case <-ticker.C:
		}
	}
}

func (p *Process) probe(ctx context.Context, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return probe(ctx)
}

// failure describes what happened to the process, with its log's last lines.
func (p *Process) failure(what string, cause error) error {
	if log := p.Log(); log != "" {
		return fmt.Errorf("%s %s: %w; its log (%s) ends with:\n%s",
			p.command.Name, what, cause, p.command.LogFile, indent(log))
	}
	return fmt.Errorf("%s %s: %w", p.command.Name, what, cause)
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}

// Signal sends a signal to the process alone, not to its group.
func (p *Process) Signal(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("signal %s: %w", p.command.Name, err)
	}
	return nil
}

// Stop asks the process to end and waits for it. After the command's grace, or
// when the context is done, it kills and says so. It is no error if the process
// has ended before.
func (p *Process) Stop(ctx context.Context) error {
	return p.stopWith(ctx, p.command.StopSignal)
}

func (p *Process) stopWith(ctx context.Context, signal syscall.Signal) error {
	if err := p.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	grace := time.NewTimer(p.command.Grace)
	defer grace.Stop()

	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	case <-grace.C:
	}
	p.Kill()
	return fmt.Errorf("%s did not stop when asked to and was killed", p.command.Name)
}

func (p *Process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// run starts the child and waits for it, on one thread: Linux ends a child when
// the thread that started it ends, and this one lives as long as the child.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	if p.err == nil {
		p.err = errors.New("exit status 0")
	}
	// Workers of a daemon that was killed would keep its port, and answer the
	// next one's clients until they are gone.
	killGroup(p.PID())
	awaitGone(p.alive)
	close(p.done)
}

// killGroup ends a process group. A group without members is no error.
func killGroup(id int) {
	_ = syscall.Kill(-id, syscall.SIGKILL)
}

// awaitGone waits until nothing that came of the process holds the other end of
// the pipe any more: the kernel closes it with a process's sockets, and does not
// wait for somebody to ask how the process ended.
func awaitGone(pipe *os.File) {
	defer pipe.Close()
	if err := pipe.SetReadDeadline(time.Now().Add(groupPatience)); err == nil {
		_, _ = io.Copy(io.Discard, pipe)
	}
}
