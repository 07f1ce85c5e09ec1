// Command bench measures a whole installation on this machine, with separate
// processes, a real PostgreSQL with fsync on and TLS everywhere.
//
//	bench                          both of the others
//	bench latency [runs]           from POST to served by nginx, one at a time
//	bench throughput [certificates] from POST to issued, many at a time
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

const usage = "usage: bench [latency|throughput [n]]"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// benchmarks in the order in which all of them run.
var benchmarks = []struct {
	name    string
	n       int // unless another number is given
	measure func(ctx context.Context, i *local.Installation, n int) error
}{
	{"latency", 100, latency},
	{"throughput", 5000, throughput},
}

const mostRuns = 100_000

func run(ctx context.Context, args []string) error {
	found := false
	for _, b := range benchmarks {
		if len(args) > 0 && args[0] != b.name {
			continue
		}
		found = true
		if len(args) > 1 {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 1 || n > mostRuns || len(args) > 2 {
				return fmt.Errorf("%s; n is a number from 1 to %d", usage, mostRuns)
			}
			b.n = n
		}
		if err := measured(ctx, func(i *local.Installation) error { return b.measure(ctx, i, b.n) }); err != nil {
			return err
		}
	}
	if !found {
		return errors.New(usage)
	}
	return nil
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
