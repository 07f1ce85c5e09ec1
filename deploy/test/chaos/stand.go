package chaos

import (
	"context"
	"fmt"
	"hash/fnv"
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
	Source    string // folder of the module: some scenarios build programs of their own
	Binaries  string // folder with the programs, nats-server among them
	Dir       string // for all state; PostgreSQL's user must reach it
	Seed      uint64
	Short     bool     // less of everything
	Scenarios []string // by name; none: all
	Previous  string   // commit of the previous release, for the scenario upgrade
	Agents    int      // how many come back at once in the scenario stampede; 0: 10,000, or 200 in the short form
	Log       io.Writer
}

// stand is a fleet with what breaks it.
type stand struct {
	*local.Fleet
	options  Options
	scenario Scenario
	random   *rand.Rand
	load     *load
	events   *follower
	report   *ScenarioReport
	letters  int // dead letters that there must be in the end
}

// start builds the programs and the fleet of a scenario behind proxies, with the
// load and a reader of events. What it returns is to be stopped also when it
// fails.
func start(ctx context.Context, options Options, scenario Scenario) (*stand, error) {
	binaries, err := options.build(ctx, scenario.Build)
	if err != nil {
		return nil, err
	}
	name := fnv.New64()
	_, _ = name.Write([]byte(scenario.Name)) // never fails
	s := &stand{
		options: options, scenario: scenario,
		random: rand.New(rand.NewPCG(options.Seed, name.Sum64())), //nolint:gosec // faults to be repeated, not secrets
		report: &ScenarioReport{Name: scenario.Name, About: scenario.About},
		Fleet: &local.Fleet{
			Installation: &local.Installation{Binaries: binaries, Dir: filepath.Join(options.Dir, scenario.Name), Durable: true},
			Proxied:      true, Nodes: scenario.Nodes,
		},
	}
	if err := os.MkdirAll(s.Dir, 0o711); err != nil { //nolint:gosec // PostgreSQL's user passes through
		return s, err
	}
	prepare := scenario.prepare
	if prepare == nil {
		prepare = startFleet
	}
	if err := prepare(ctx, s); err != nil {
		return s, err
	}
	apis := make([]*local.API, len(s.Servers))
	for i, server := range s.Servers {
		if apis[i], err = server.API(); err != nil {
			return s, err
		}
	}
	s.load, s.events = newLoad(apis, s.Dir), newFollower(apis)
	if scenario.Calm {
		s.load.every = calmEvery
	}
	return s, nil
}

// startFleet starts the servers that the scenario asks for, and two agents.
func startFleet(ctx context.Context, s *stand) error {
	var err error
	switch {
	case s.scenario.Apart > 0:
		err = s.StartApart(ctx, s.scenario.Apart)
	case s.scenario.Servers > 0:
		err = s.Start(ctx, s.scenario.Servers)
	default:
		err = s.Start(ctx, 2)
	}
	if err != nil {
		return err
	}
	return s.addAgents(ctx)
}

// agents are the nodes of every scenario; each has a folder as its target.
var agents = []string{"a", "b"}

func (s *stand) addAgents(ctx context.Context) error {
	for _, name := range agents {
		if _, err := s.AddAgent(ctx, name); err != nil {
			return err
		}
	}
	return nil
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

// await asks for a condition until it is true or the time is over.
func (s *stand) await(ctx context.Context, limit time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return false
		}
		s.pass(ctx, lookEvery)
	}
	return true
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
	cmd := exec.CommandContext(ctx, filepath.Join(s.options.Binaries, "certctl-server"), "check")
	cmd.Env = append(os.Environ(), "CERTCTL_DATABASE_URL="+s.DatabaseURL, "CERTCTL_DATA_DIR="+s.Dir)
	output, err := cmd.CombinedOutput()
	return string(output), err
}
