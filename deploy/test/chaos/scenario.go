package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Scenario is one way of breaking things.
type Scenario struct {
	Name  string
	About string
	Short bool // belongs to the short form

	Nodes   int     // of NATS; 0 is one
	Servers int     // with all roles; 0 is two
	Apart   int     // processes of each role, instead of Servers
	Build   variant // of server and agent; empty: as they are released
	Calm    bool    // with few submissions: what counts is something else
	Mounts  bool    // it mounts a file system, and is left out where that is not allowed

	// prepare starts the fleet where it is not two servers and two agents.
	prepare func(ctx context.Context, s *stand) error
	breaks  func(ctx context.Context, s *stand) error
}

// Scenarios are all of them, in the order in which they run.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: "servers-killed", About: "kill -9 of a server at a random moment", Short: true, breaks: killServers},
		{Name: "agents-killed", About: "kill -9 of an agent at a random moment", breaks: killAgents},
		{Name: "roles-killed", About: "kill -9 of API, worker, signer and scheduler, two of each in processes of their own", Apart: 2, breaks: killRoles},
		{Name: "server-points", About: "kill -9 of a server between a commit and what follows it", Build: withFaults, breaks: killServerAtPoints},
		{Name: "agent-points", About: "kill -9 of an agent at every step of its work", Build: withFaults, breaks: killAgentAtPoints},
		{Name: "database", About: "PostgreSQL restarted, killed, and cut off", Short: true, breaks: breakDatabase},
		{Name: "connections", About: "all database connections broken again and again", breaks: dropDatabase},
		{Name: "parted", About: "database and bus silent in turn, as across a parted network", breaks: part},
		{Name: "bus", About: "NATS killed, and cut off while submissions go on", breaks: breakBus},
		{Name: "jetstream-wiped", About: "the folder of JetStream deleted under load", Short: true, breaks: wipeJetStream},
		{Name: "slow-bus", About: "everything on the bus delayed, connections dropped at random", breaks: slowBus},
		{Name: "rogue", About: "hints and requests doubled, reordered, delayed, swallowed and forged by somebody with the platform's credentials", Short: true, breaks: meddle},
		{Name: "paused", About: "one of three servers stopped past its leases and continued", Servers: 3, breaks: pauseServer},
		{Name: "roles-paused", About: "one of three of each role stopped past its leases and continued", Apart: 3, breaks: pauseRoles},
		{Name: "node", About: "a full disk, a read-only one, an nginx that hangs and one that does not come back", Short: true, Calm: true, Mounts: true, breaks: breakNode},
		{Name: "clocks", About: "clocks that differ by hours and jump", Build: withClocks, breaks: moveClocks},
		{Name: "upgrade", About: "servers and agents of the previous release beside those of this one, both ways round", prepare: startPrevious, breaks: upgrade},
		{Name: "cluster", About: "three NATS servers losing one, then the leader", Nodes: 3, breaks: breakCluster},
		{Name: "stampede", About: "a whole fleet of agents coming back at once after a restart of the bus", Calm: true, breaks: stampede},
	}
}

// Run runs the scenarios one after the other, each on a fleet of its own. A
// scenario that cannot go on is a problem of its own, and the next one runs.
func Run(ctx context.Context, options Options) (Report, error) {
	report := Report{Seed: options.Seed, Short: options.Short, Started: time.Now().UTC(), Machine: machine()}
	for _, name := range options.Scenarios {
		if !slices.ContainsFunc(Scenarios(), func(s Scenario) bool { return s.Name == name }) {
			return report, fmt.Errorf("there is no scenario %q", name)
		}
	}
	for _, scenario := range Scenarios() {
		named := slices.Contains(options.Scenarios, scenario.Name)
		if len(options.Scenarios) > 0 && !named || len(options.Scenarios) == 0 && options.Short && !scenario.Short {
			continue
		}
		if scenario.Mounts && os.Geteuid() != 0 && !named {
			fmt.Fprintf(options.Log, "%s: LEFT OUT, since only root may mount file systems\n", scenario.Name)
			report.LeftOut = append(report.LeftOut, scenario.Name)
			continue
		}
		fmt.Fprintf(options.Log, "%s: %s (seed %d)\n", scenario.Name, scenario.About, options.Seed)
		part, err := run(ctx, options, scenario)
		if err != nil {
			part.Problems = append(part.Problems, err.Error())
		}
		report.add(part)
		if ctx.Err() != nil {
			return report, context.Cause(ctx)
		}
	}
	return report, nil
}

func run(ctx context.Context, options Options, scenario Scenario) (part ScenarioReport, err error) {
	started := time.Now()
	part.Name, part.About = scenario.Name, scenario.About
	s, err := start(ctx, options, scenario)
	if s != nil {
		defer func() {
			err = errors.Join(err, s.stop(ctx))
			if err == nil && len(part.Problems) == 0 {
				err = os.RemoveAll(s.Dir)
			}
		}()
	}
	if err != nil {
		return part, err
	}
	if err := s.events.start(ctx); err != nil {
		return part, err
	}
	defer s.events.end()
	s.load.start(ctx)
	if _, err = s.load.probe(ctx); err == nil { // what never ran cannot be broken
		err = scenario.breaks(ctx, s)
	}
	s.load.end()
	if err == nil {
		err = s.judge(ctx)
	}
	s.report.Took = seconds(time.Since(started))
	return *s.report, err
}
