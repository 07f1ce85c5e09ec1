// Command run breaks certctl on purpose and reports what is left: see package
// chaos.
//
//	run [--seed N] [--short] [--report FILE] [--agents N] [--previous COMMIT] [scenario …]
//
// The report is JSON, or a document where the file's name ends in .md; the flag
// may be repeated.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/deploy/test/chaos"
)

// limit is when a run stops by itself.
const limit = 2 * time.Hour

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
	short := flag.Bool("short", false, "less of everything, and without the scenarios that take long")
	agents := flag.Int("agents", 0, "how many agents come back at once in the scenario stampede; 0: 10,000, or 200 in the short form")
	previous := flag.String("previous", chaos.Previous, "commit of the previous release, for the scenario upgrade")
	var files []string
	flag.Func("report", "file for the report: JSON, or a document if it ends in .md", func(file string) error {
		files = append(files, file)
		return nil
	})
	flag.Parse()
	dir, err := os.MkdirTemp("", "certctl-chaos-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // PostgreSQL's user passes through
		return err
	}
	source, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	binaries := filepath.Join(dir, "bin")
	if err := local.Build(ctx, source, binaries, "./cmd/...", local.NATSPackage); err != nil {
		return err
	}
	report, err := chaos.Run(ctx, chaos.Options{
		Source: source, Binaries: binaries, Dir: dir, Seed: *seed, Short: *short, Scenarios: flag.Args(),
		Previous: *previous, Agents: *agents, Log: os.Stdout,
	})
	report.Print(os.Stdout)
	if err == nil && report.Failed() {
		err = errBroken
	}
	err = errors.Join(err, write(report, files))
	if err != nil {
		return fmt.Errorf("%w; the logs are in %s", err, dir)
	}
	return os.RemoveAll(dir)
}

// write writes the report, of a run that has failed as well.
func write(report chaos.Report, files []string) error {
	for _, file := range files {
		text, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return err
		}
		text = append(text, '\n')
		if strings.HasSuffix(file, ".md") {
			var document bytes.Buffer
			report.Markdown(&document)
			text = document.Bytes()
		}
		if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // figures for everybody
			return err
		}
	}
	return nil
}
