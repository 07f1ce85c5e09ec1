// Command bench measures a whole installation on this machine, with separate
// processes, a real PostgreSQL with fsync on and TLS everywhere.
//
//	bench latency [runs]   from POST to served by nginx, one at a time
//
// Figures are of the machine it runs on: compare those of one run.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

const usage = "usage: bench latency [runs]"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] != "latency" || len(args) > 2 {
		return errors.New(usage)
	}
	runs := 100
	if len(args) == 2 {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 || n > 10_000 {
			return errors.New("runs must be a number from 1 to 10000")
		}
		runs = n
	}
	return measured(ctx, func(i *local.Installation) error { return latency(ctx, i, runs) })
}

// measured runs what with a fresh installation and takes it down afterwards.
func measured(ctx context.Context, what func(*local.Installation) error) (err error) {
	dir, err := os.MkdirTemp("", "certctl-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o711); err != nil { // PostgreSQL's user passes through
		return err
	}
	binaries := filepath.Join(dir, "bin")
	if err := local.Build(ctx, ".", binaries, "./cmd/certctl-server", "./cmd/certctl-agent"); err != nil {
		return err
	}
	i := &local.Installation{Binaries: binaries, Dir: filepath.Join(dir, "state"), Durable: true}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, i.Stop(stopping))
	}()
	if err := i.Start(ctx); err != nil {
		return err
	}
	return what(i)
}
