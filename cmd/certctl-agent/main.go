// Command certctl-agent runs on each node: it makes keys where they are used,
// installs certificates and proves what is served. See package agent.
//
// Exit codes:
//
//	0  done, or stopped by SIGTERM or SIGINT
//	1  error
//	2  the command line, the settings or the policy file cannot be right
//	3  health: no agent runs, or --max-silence is exceeded
//	4  run: this agent was retired; starting it again is of no use
//	5  run: the server ended this session, since another process uses the identity
package main

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
)

// Exit codes; see the package comment.
const (
	exitOK = iota
	exitError
	exitUsage
	exitUnhealthy
	exitRetired
	exitStopped
)

func main() {
	target.StagedExec() // first: this process may be a check of a staged configuration
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c Config
	parsed, err := config.Parse(&c, os.Args[1:], config.Options{
		Name: "certctl-agent", Description: "Keys and certificates of one node.", Environ: os.Environ(),
		DefaultFile: defaultConfigFile, Known: knownVariables(),
		Vars: map[string]string{"config_file": defaultConfigFile, "policy_file": defaultPolicyFile},
	})
	if errors.Is(err, config.ErrHelp) {
		return exitOK
	}
	if err != nil {
		return fail(err, exitUsage)
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
		return fail(health(ctx, c), exitUnhealthy)
	case "policy check":
		return fail(checkPolicy(c), exitUsage)
	case "version":
		fmt.Println(version())
	}
	return fail(err, exitCode(err))
}

// fail prints an error with its remedy and returns the code, or exitOK.
func fail(err error, code int) int {
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(os.Stderr, "certctl-agent:", err)
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
		return exitStopped
	case certctl.ErrorCode(err) == certctl.Gone:
		return exitRetired
	case certctl.ErrorCode(err) == certctl.Invalid:
		return exitUsage
	}
	return exitError
}
