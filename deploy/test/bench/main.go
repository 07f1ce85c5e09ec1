// Command bench measures certctl on this machine, with a process for each part,
// a real PostgreSQL with fsync on, a real nats-server that syncs always, and TLS
// everywhere.
//
//	bench [flags] [scenario ...]   A, B, … as --list names them; none: all
//
// Each scenario measures in the same run what this machine can do of the work
// itself, so that figures of different machines can be compared by their ratio.
// What is required of a figure is shown beside it; a figure that misses it does
// not fail the run, since machines are as fast as they are.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	binaries        string
	scale           float64
	report          string
	profiles        string
	targets, server string
	count           int
	list            bool
}

// scenario is one thing that is measured.
type scenario struct {
	letter, title string
	measure       func(ctx context.Context, o options, r *result) error
}

// scenarios in the order in which they run.
var scenarios = []scenario{
	{"A", "Issue in bulk", bulk},
	{"B", "Issue one by one", single},
	{"C", "To the node", node},
	{"D", "Renewal storm", storm},
	{"E", "A fleet of agents: push (E), size (I), reconnect storm (K)", push},
	{"F", "Inventory", inventory},
	{"G", "Revocation", revocation},
	{"H", "Start with much to do", start},
	{"I", "Start and size", size},
	{"J", "Scale out: a CA that answers in 50 ms", scale},
}

func run(ctx context.Context, args []string) (err error) {
	o, chosen, err := parse(args)
	if err != nil {
		return err
	}
	if o.list {
		for _, s := range scenarios {
			fmt.Println(s.letter, s.title)
		}
		return nil
	}
	if o.targets != "" {
		return writeTargets(o.targets, o.server, o.count)
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o755); err != nil {
			return err
		}
	}
	binaries, err := os.MkdirTemp("", "certctl-bench-bin-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(binaries)) }()
	o.binaries = binaries
	if err := local.Build(ctx, ".", binaries, "./cmd/certctl-server", "./cmd/certctl-agent", local.NATSPackage); err != nil {
		return err
	}
	var report bytes.Buffer
	out := io.MultiWriter(os.Stdout, &report)
	fmt.Fprintf(out, "%s, %d cores, %s %s, %s\n\n", time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	for _, s := range scenarios {
		if len(chosen) > 0 && !slices.Contains(chosen, s.letter) {
			continue
		}
		r := &result{letter: s.letter, title: s.title}
		if err := s.measure(ctx, o, r); err != nil {
			return fmt.Errorf("scenario %s: %w", s.letter, err)
		}
		r.write(out)
	}
	if o.report == "" {
		return nil
	}
	return os.WriteFile(filepath.Clean(o.report), report.Bytes(), 0o644)
}

func parse(args []string) (o options, chosen []string, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Float64Var(&o.scale, "scale", 1, "size of every scenario, as a part of what it is specified with")
	flags.StringVar(&o.report, "report", "", "file that gets the results, in Markdown")
	flags.StringVar(&o.profiles, "profiles", "", "folder that gets CPU profiles of the servers")
	flags.StringVar(&o.targets, "targets", "", "file that gets requests for vegeta and k6, instead of a run")
	flags.StringVar(&o.server, "server", "https://127.0.0.1:8443", "with --targets: whom they are for")
	flags.IntVar(&o.count, "count", 1000, "with --targets: how many")
	flags.BoolVar(&o.list, "list", false, "list the scenarios")
	if err := flags.Parse(args); err != nil {
		return o, nil, err
	}
	if o.count < 1 {
		return o, nil, errors.New("--count is at least 1")
	}
	if o.scale <= 0 || o.scale > 1 {
		return o, nil, errors.New("--scale is above 0 and at most 1")
	}
	for _, arg := range flags.Args() {
		letter := strings.ToUpper(arg)
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.letter == letter }) {
			return o, nil, fmt.Errorf("there is no scenario %q: --list names them", arg)
		}
		chosen = append(chosen, letter)
	}
	return o, chosen, nil
}

// of is a number of the specification at the chosen scale, at least 1.
func (o options) of(n int) int { return max(int(float64(n)*o.scale), 1) }
