package chaos

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// Options say what to run.
type Options struct {
	Binaries  string // folder with the programs, nats-server among them
	Dir       string // for all state; PostgreSQL's user must reach it
	Seed      uint64
	Short     bool     // less of everything
	Scenarios []string // by name; none: all
	Log       io.Writer
}

// stand is a fleet with what breaks it.
type stand struct {
	*local.Fleet
	options Options
	random  *rand.Rand
	load    *load
	events  *follower
	report  *ScenarioReport
}

// start builds two servers and two agents behind proxies, with the load and a
// reader of events.
func start(ctx context.Context, options Options, s Scenario) (*stand, error) {
	stand := &stand{
		options: options, random: rand.New(rand.NewPCG(options.Seed, uint64(len(s.Name)))), //nolint:gosec // faults to be repeated, not secrets
		report: &ScenarioReport{Name: s.Name},
		Fleet: &local.Fleet{
			Installation: &local.Installation{Binaries: options.Binaries, Dir: filepath.Join(options.Dir, s.Name), Durable: true},
			Proxied:      true, Nodes: s.Nodes,
		},
	}
	if err := os.MkdirAll(stand.Dir, 0o711); err != nil { //nolint:gosec // PostgreSQL's user passes through
		return stand, err
	}
	if err := stand.Start(ctx, 2); err != nil {
		return stand, err
	}
	for _, name := range []string{"a", "b"} {
		if _, err := stand.AddAgent(ctx, name); err != nil {
			return stand, err
		}
	}
	apis := make([]*local.API, len(stand.Servers))
	for i, server := range stand.Servers {
		var err error
		if apis[i], err = server.API(); err != nil {
			return stand, err
		}
	}
	stand.load, stand.events = newLoad(apis), newFollower(apis)
	return stand, nil
}

// stop ends everything that was started.
func (s *stand) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return s.Stack.Stop(ctx)
}

func (s *stand) logf(format string, args ...any) {
	fmt.Fprintf(s.options.Log, "   %s "+format+"\n", append([]any{time.Now().Format("15:04:05.000")}, args...)...)
}

// times is a number of repetitions: few in the short form.
func (s *stand) times(full, short int) int {
	if s.options.Short {
		return short
	}
	return full
}

// span is a length of time likewise.
func (s *stand) span(full, short time.Duration) time.Duration {
	if s.options.Short {
		return short
	}
	return full
}

// moment passes a random time of at most most.
func (s *stand) moment(ctx context.Context, most time.Duration) {
	s.pass(ctx, time.Duration(s.random.Int64N(int64(most))))
}

// pass lets time go by: when something breaks is what is tested.
func (s *stand) pass(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// fault counts a fault and says what it is.
func (s *stand) fault(format string, args ...any) {
	s.report.Faults++
	s.logf(format, args...)
}

// recovered measures how long it takes after a fault until a new submission is
// on its node.
func (s *stand) recovered(ctx context.Context) error {
	took, err := s.load.probe(ctx)
	if err != nil {
		return err
	}
	s.report.recoveries = append(s.report.recoveries, took)
	s.logf("recovered after %s", took.Round(time.Millisecond))
	return nil
}

// check runs the product's own.
func (s *stand) check(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.Binaries, "certctl-server"), "check")
	cmd.Env = append(os.Environ(), "CERTCTL_DATABASE_URL="+s.DatabaseURL, "CERTCTL_DATA_DIR="+s.Dir)
	output, err := cmd.CombinedOutput()
	return string(output), err
}
