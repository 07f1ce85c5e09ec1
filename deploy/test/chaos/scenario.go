package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// Scenario is one way of breaking things.
type Scenario struct {
	Name  string
	About string
	Short bool // belongs to the short form
	Nodes int  // of NATS; 0 is one

	breaks func(ctx context.Context, s *stand) error
}

// Scenarios are all of them, in the order in which they run.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: "servers-killed", About: "kill -9 of a server at a random moment", Short: true, breaks: killServers},
		{Name: "agents-killed", About: "kill -9 of an agent at a random moment", breaks: killAgents},
		{Name: "database", About: "PostgreSQL restarted, killed, and cut off", Short: true, breaks: breakDatabase},
		{Name: "connections", About: "all database connections broken again and again", breaks: dropDatabase},
		{Name: "bus", About: "NATS killed, and cut off while submissions go on", breaks: breakBus},
		{Name: "jetstream-wiped", About: "the folder of JetStream deleted under load", Short: true, breaks: wipeJetStream},
		{Name: "slow-bus", About: "everything on the bus delayed, connections dropped at random", breaks: slowBus},
		{Name: "paused", About: "a server stopped past its leases and continued", breaks: pauseServer},
		{Name: "cluster", About: "three NATS servers losing one, then the leader", Nodes: 3, breaks: breakCluster},
	}
}

// Run runs the scenarios one after the other, each on a fleet of its own.
func Run(ctx context.Context, options Options) (Report, error) {
	report := Report{Seed: options.Seed, Short: options.Short, Started: time.Now()}
	for _, scenario := range Scenarios() {
		if options.Short && !scenario.Short || len(options.Scenarios) > 0 && !slices.Contains(options.Scenarios, scenario.Name) {
			continue
		}
		fmt.Fprintf(options.Log, "%s: %s (seed %d)\n", scenario.Name, scenario.About, options.Seed)
		part, err := run(ctx, options, scenario)
		if err != nil {
			return report, fmt.Errorf("%s: %w", scenario.Name, err)
		}
		report.add(part)
	}
	return report, nil
}

func run(ctx context.Context, options Options, scenario Scenario) (part ScenarioReport, err error) {
	started := time.Now()
	s, err := start(ctx, options, scenario)
	defer func() {
		err = errors.Join(err, s.stop(ctx))
		if err == nil && len(part.Problems) == 0 {
			err = os.RemoveAll(s.Dir)
		}
	}()
	if err != nil {
		return part, err
	}
	if err := s.events.start(ctx); err != nil {
		return part, err
	}
	defer s.events.end()
	s.load.start(ctx)
	err = scenario.breaks(ctx, s)
	s.load.end()
	if err == nil {
		err = s.judge(ctx)
	}
	s.report.Took = seconds(time.Since(started))
	return *s.report, err
}

// killServers never kills both at once: that is the database scenario's work.
func killServers(ctx context.Context, s *stand) error {
	for range s.times(20, 2) {
		s.moment(ctx, 2*time.Second)
		n := s.random.IntN(len(s.Servers))
		s.fault("kill -9 of server %d", n)
		s.Servers[n].Kill()
		s.moment(ctx, time.Second)
		if err := s.Servers[n].Start(ctx); err != nil {
			return err
		}
		if err := s.recovered(ctx); err != nil {
			return err
		}
	}
	return nil
}

func killAgents(ctx context.Context, s *stand) error {
	for range s.times(20, 3) {
		s.moment(ctx, time.Second)
		n := s.random.IntN(len(s.Agents))
		s.fault("kill -9 of agent %d", n)
		s.Agents[n].Kill()
		s.moment(ctx, time.Second)
		if err := s.Agents[n].Start(ctx); err != nil {
			return err
		}
		if err := s.recovered(ctx); err != nil {
			return err
		}
	}
	return nil
}

func breakDatabase(ctx context.Context, s *stand) error {
	for range s.times(3, 1) {
		s.moment(ctx, 2*time.Second)
		s.fault("PostgreSQL killed with -9")
		s.Database.Kill()
		if err := errors.Join(s.Database.Start(ctx), s.recovered(ctx)); err != nil {
			return err
		}
		s.moment(ctx, time.Second)
		s.fault("PostgreSQL restarted")
		if err := errors.Join(s.Database.Stop(ctx), s.Database.Start(ctx), s.recovered(ctx)); err != nil {
			return err
		}
	}
	s.fault("PostgreSQL cut off")
	s.DatabaseProxy.Cut()
	s.pass(ctx, s.span(time.Minute, 5*time.Second))
	s.DatabaseProxy.Heal()
	return s.recovered(ctx)
}

func dropDatabase(ctx context.Context, s *stand) error {
	for range s.times(100, 10) {
		s.moment(ctx, 500*time.Millisecond)
		s.fault("all database connections dropped")
		s.DatabaseProxy.Drop()
	}
	return s.recovered(ctx)
}

func breakBus(ctx context.Context, s *stand) error {
	for range s.times(5, 1) {
		s.moment(ctx, 2*time.Second)
		s.fault("NATS killed with -9")
		s.NATS[0].Kill()
		s.moment(ctx, 2*time.Second)
		if err := errors.Join(s.NATS[0].Start(ctx), s.recovered(ctx)); err != nil {
			return err
		}
	}
	s.fault("NATS cut off")
	s.NATSProxies[0].Cut()
	s.pass(ctx, s.span(2*time.Minute, 5*time.Second))
	s.NATSProxies[0].Heal()
	return s.recovered(ctx)
}

func wipeJetStream(ctx context.Context, s *stand) error {
	for range s.times(3, 1) {
		s.moment(ctx, 3*time.Second)
		s.fault("JetStream's folder deleted")
		s.NATS[0].Kill()
		if err := errors.Join(os.RemoveAll(s.NATSStore(0)), s.NATS[0].Start(ctx), s.recovered(ctx)); err != nil {
			return err
		}
	}
	return nil
}

func slowBus(ctx context.Context, s *stand) error {
	for range s.times(10, 2) {
		delay := time.Duration(s.random.IntN(400)) * time.Millisecond
		s.fault("everything on the bus takes %s longer", delay)
		s.NATSProxies[0].Delay(delay)
		s.pass(ctx, s.span(5*time.Second, time.Second))
		s.fault("connections dropped on the way")
		s.NATSProxies[0].Drop()
	}
	s.NATSProxies[0].Heal()
	s.NATSProxies[0].Drop() // what is still delayed goes
	return s.recovered(ctx)
}

// pastLeases is longer than a worker's lease on an attempt.
const pastLeases = 40 * time.Second

func pauseServer(ctx context.Context, s *stand) error {
	for range s.times(3, 1) {
		s.moment(ctx, 2*time.Second)
		n := s.random.IntN(len(s.Servers))
		s.fault("server %d stopped for %s", n, pastLeases)
		process := s.Servers[n].Process()
		if err := process.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		s.pass(ctx, pastLeases)
		if err := process.Signal(syscall.SIGCONT); err != nil {
			return err
		}
		if err := s.recovered(ctx); err != nil {
			return err
		}
	}
	return nil
}

func breakCluster(ctx context.Context, s *stand) error {
	for n := range s.NATS {
		s.moment(ctx, 2*time.Second)
		s.fault("kill -9 of NATS server %d of %d", n+1, len(s.NATS))
		s.NATS[n].Kill()
		if err := s.recovered(ctx); err != nil { // with two of three
			return err
		}
		if err := errors.Join(s.NATS[n].Start(ctx), s.recovered(ctx)); err != nil {
			return err
		}
	}
	return nil
}
