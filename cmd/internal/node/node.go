// Package node is the program of an agent: its commands, its settings and its
// wiring. certctl-agent and certctl-proxy are this program with tables of kinds of
// targets that differ, so that what is only for other hosts is linked where it is
// wanted.
//
// Exit codes:
//
//	0  done, or stopped by SIGTERM or SIGINT
//	1  error
//	2  the command line, the settings or the policy file cannot be right
//	3  health: no agent runs, or --max-silence is exceeded
//	4  run: this agent was retired; starting it again is of no use
//	5  run: the server ended this session, since another process uses the identity
package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/cmd/internal/config"
	"github.com/certctl/certctl/cmd/internal/edition"
)

// Exit codes; see the package comment.
const (
	ExitOK = iota
	ExitError
	ExitUsage
	ExitUnhealthy
	ExitRetired
	ExitStopped
)

// Program says which program this is.
type Program struct {
	Name, Description string
	// Kinds are the targets that it can serve.
	Kinds target.Table
	// ConfigFile and PolicyFile are read when they exist and no other is named.
	ConfigFile, PolicyFile string
	// DataDir holds its state unless another is named.
	DataDir string
}

// Run does what the command line says, and returns the exit code.
func Run(p Program) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := Config{program: p}
	parsed, err := config.Parse(&c, os.Args[1:], config.Options{
		Name: p.Name, Description: p.Description, Environ: os.Environ(),
		DefaultFile: p.ConfigFile, Known: knownVariables(),
		Vars: map[string]string{"config_file": p.ConfigFile, "policy_file": p.PolicyFile, "data_dir": p.DataDir},
	})
	if errors.Is(err, config.ErrHelp) {
		return ExitOK
	}
	if err != nil {
		return p.fail(err, ExitUsage)
	}
	for _, warning := range parsed.Warnings {
		log := c.logger()
		log.Warn().Msg(warning)
	}
	switch parsed.Context.Command() {
	case "enroll":
		err = enroll(ctx, c, c.Enroll.enrolment)
	case "run":
		err = runAgent(ctx, c)
	case "health":
		return p.fail(health(ctx, c), ExitUnhealthy)
	case "inspect <kind>":
		err = inspect(ctx, c)
	case "seed":
		err = seed(c)
	case "policy check":
		return p.fail(checkPolicy(c), ExitUsage)
	case "version":
		fmt.Println(edition.Line(p.Name))
	}
	return p.fail(err, exitCode(err))
}

// fail prints an error with its remedy and returns the code, or ExitOK.
func (p Program) fail(err error, code int) int {
	if err == nil {
		return ExitOK
	}
	fmt.Fprintln(os.Stderr, p.Name+":", err)
	var ours *certctl.Error
	if errors.As(err, &ours) && ours.Remedy != "" {
		fmt.Fprintln(os.Stderr, "remedy:", ours.Remedy)
	}
	return code
}

func exitCode(err error) int {
	var stopped *agent.StoppedError
	switch {
	case errors.As(err, &stopped):
		return ExitStopped
	case certctl.ErrorCode(err) == certctl.Gone:
		return ExitRetired
	case certctl.ErrorCode(err) == certctl.Invalid:
		return ExitUsage
	}
	return ExitError
}
