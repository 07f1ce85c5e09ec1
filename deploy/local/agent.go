package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Agent is a certctl-agent process. Its fields are read by Enrol and Start; its
// methods belong to one goroutine.
type Agent struct {
	// Binary is the path of certctl-agent.
	Binary string
	// Dir holds the agent's keys, journal and identity.
	Dir string
	// Name is the agent's name.
	AgentName string
	// PolicyFile is the node's policy; empty: the agent's default.
	PolicyFile string
	// Env is added to the environment and wins.
	Env []string

	process *Process
}

// Enrolled reports whether the agent has an identity.
func (a *Agent) Enrolled() (bool, error) {
	_, err := os.Stat(filepath.Join(a.Dir, "identity.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Enrol makes the machine an agent, with a join token.
func (a *Agent) Enrol(ctx context.Context, serverURL, token, caFingerprint string) error {
	cmd := exec.CommandContext(ctx, a.Binary, "enroll", "--server", serverURL, "--name", a.AgentName, "--ca-fingerprint", caFingerprint)
	cmd.Env = append(a.environment(), "CERTCTL_TOKEN="+token)
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("enrol the agent: %w: %s", err, output)
	}
	return nil
}

// Start starts the agent. It is ready when its own health check says so.
func (a *Agent) Start(ctx context.Context) error {
	if err := a.Spawn(); err != nil {
		return err
	}
	return a.process.Ready(ctx, func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, a.Binary, "health")
		cmd.Env = a.environment()
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	})
}

// Spawn starts the agent and does not wait for it.
func (a *Agent) Spawn() error {
	process, err := Start(Command{
		Name: "certctl-agent", Args: []string{a.Binary, "run"}, LogFile: filepath.Join(a.Dir, "agent.log"),
		Env: a.environment()[len(os.Environ()):],
	})
	if err != nil {
		return err
	}
	a.process = process
	return nil
}

func (a *Agent) environment() []string {
	env := append(os.Environ(), "CERTCTL_DATA_DIR="+a.Dir)
	if a.PolicyFile != "" {
		env = append(env, "CERTCTL_POLICY="+a.PolicyFile)
	}
	return append(env, a.Env...)
}

// Done is closed when the agent has ended.
func (a *Agent) Done() <-chan struct{} { return a.process.Done() }

// Name is the name used in messages.
func (a *Agent) Name() string { return "certctl-agent" }

// Process is the running child.
func (a *Agent) Process() *Process { return a.process }

// Stop asks the agent to end and waits for it.
func (a *Agent) Stop(ctx context.Context) error { return a.process.Stop(ctx) }

// Kill ends the agent with SIGKILL.
func (a *Agent) Kill() { a.process.Kill() }
