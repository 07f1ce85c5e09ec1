// Command run breaks certctl on purpose and reports what is left: see package
// chaos.
//
//	run [--seed N] [--short] [--report FILE] [scenario …]
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/deploy/test/chaos"
)

// limit is when a run stops by itself.
const limit = 45 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	err := run(ctx)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

var errBroken = errors.New("a promise was broken")

func run(ctx context.Context) error {
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "what is broken when follows from it") //nolint:gosec // any number
	short := flag.Bool("short", false, "the form that belongs to ./task test")
	file := flag.String("report", "", "file for the report as JSON")
	flag.Parse()
	dir, err := os.MkdirTemp("", "certctl-chaos-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // PostgreSQL's user passes through
		return err
	}
	binaries := filepath.Join(dir, "bin")
	if err := local.Build(ctx, ".", binaries, "./cmd/...", local.NATSPackage); err != nil {
		return err
	}
	report, err := chaos.Run(ctx, chaos.Options{
		Binaries: binaries, Dir: dir, Seed: *seed, Short: *short, Scenarios: flag.Args(), Log: os.Stdout,
	})
	report.Print(os.Stdout)
	if err == nil && report.Failed() {
		err = errBroken
	}
	if err != nil {
		return fmt.Errorf("%w; the logs are in %s", err, dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if *file == "" {
		return nil
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*file, append(text, '\n'), 0o644) //nolint:gosec // figures for everybody
}
