// Command certctl is the operator's command line: nouns and verbs over the REST
// API, tables for people, JSON and YAML for programs, and exit codes that
// scripts can rely on.
//
// It holds no logic of the platform: every verb is one request, or a few of
// them, and what it prints is what the API answered.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/cmd/internal/config"
)

// Exit codes, stable.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitNotFound = 3
	exitDenied   = 4
	exitTimeout  = 5
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its edges as arguments, so that tests run the real program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var cli CLI
	parsed, err := config.Parse(&cli, meant(args), config.Options{
		Name: "certctl", Description: "Operate a certctl installation.", Environ: os.Environ(),
		Stdout: stdout, Stderr: stderr, Known: []string{"CERTCTL_CONFIG"},
	})
	if errors.Is(err, config.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(stderr, "certctl:", certctl.ErrorMessage(err))
		return exitUsage
	}
	for _, warning := range parsed.Warnings {
		fmt.Fprintln(stderr, "certctl:", warning)
	}
	session := &session{ctx: ctx, globals: cli.Globals, out: stdout, err: stderr, model: parsed.Context.Model}
	if err := parsed.Context.Run(session); err != nil {
		return explain(stderr, err)
	}
	return exitOK
}

// meant are the arguments with `certctl version`, without a verb, as what every
// other program answers to it: versions are a noun here.
func meant(args []string) []string {
	if slices.Equal(args, []string{"version"}) {
		return []string{"about"}
	}
	return args
}

// explain prints what went wrong and what to do, and returns the exit code.
func explain(stderr io.Writer, err error) int {
	var failure *apiError
	if errors.As(err, &failure) {
		failure.print(stderr)
		return failure.exitCode()
	}
	message, remedy := err.Error(), ""
	var ours *certctl.Error
	late := errors.Is(err, context.DeadlineExceeded)
	switch {
	case errors.As(err, &ours):
		message, remedy = ours.Message, ours.Remedy
	case late:
		message = "not done in time; the server goes on with what it has accepted"
		remedy = "--timeout says how long a command may take, 0 for ever"
	}
	fmt.Fprintln(stderr, "certctl:", message)
	if remedy != "" {
		fmt.Fprintln(stderr, "  ", remedy)
	}
	switch {
	case late:
		return exitTimeout
	case certctl.ErrorCode(err) == certctl.Invalid:
		return exitUsage
	}
	return exitError
}
