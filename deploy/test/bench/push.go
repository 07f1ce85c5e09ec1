package main

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

const pushAgents = 10_000

// push has everything on ten thousand nodes renewed at once, looks at how large the
// processes are, and kills the bus under all of them.
func push(ctx context.Context, o options, r *result) error {
	return withStand(ctx, o, func(s *stand) error {
		agents := o.of(pushAgents)
		began := time.Now()
		crowd, err := s.crowd(ctx, agents)
		if err != nil {
			return err
		}
		defer crowd.Close()
		r.add(fmt.Sprintf("%d agents enrolled and connected", agents), "%s", short(time.Since(began)))
		api, err := s.clients(nodeInFlight)
		if err != nil {
			return err
		}
		if err := s.targets(ctx, api, agents); err != nil {
			return err
		}
		if err := inParallel(ctx, nodeInFlight, agents, func(ctx context.Context, n int) error {
			_, err := submitTo(ctx, api, fmt.Sprintf("push-%d", n), n)
			return err
		}); err != nil {
			return err
		}
		const settled = `select not exists (select from due where kind in ('order', 'deployment')) and (select count(*) from deployment) >= $1`
		if err := s.await(ctx, settled, agents); err != nil {
			return err
		}
		began = time.Now()
		if _, err := s.store.Pool().Exec(ctx, `update due set due_at = now(), urgency = 0 where kind = 'holder'`); err != nil {
			return err
		}
		if _, err := s.store.Pool().Exec(ctx, `update version set renew_at = now()`); err != nil {
			return err
		}
		answered, err := crowd.Answered(ctx, began)
		if err != nil {
			return err
		}
		rung := answered[len(answered)-1]
		r.need("every agent has been rung and has asked", rung < 2*time.Second, "< 2 s", "%s", short(rung))
		if err := s.await(ctx, settled, 2*agents); err != nil {
			return err
		}
		all := time.Since(began)
		r.need("every agent has made a key, installed and reported", all < 45*time.Second, "< 45 s", "%s", short(all))
		if err := s.sizes(r); err != nil {
			return err
		}
		s.NATS[0].Kill()
		if err := s.NATS[0].Start(ctx); err != nil {
			return err
		}
		back := time.Now()
		if answered, err = crowd.Answered(ctx, back); err != nil {
			return err
		}
		last := answered[len(answered)-1]
		r.need("the bus was killed: all are back and answered", last < time.Minute, "< 60 s", "p50 %s, last %s", short(answered[len(answered)/2]), short(last))
		return nil
	})
}

// sizes records how much memory each part holds.
func (s *stand) sizes(r *result) error {
	for _, p := range s.programs() {
		u, err := usageOf(p.pid)
		if err != nil {
			return err
		}
		switch p.name {
		case "nats-server":
			r.need("memory: "+p.name, u.memory < 1<<30, "< 1 GiB", "%s", mebibytes(u.memory))
		case "PostgreSQL", "load generator":
			r.add("memory: "+p.name, "%s", mebibytes(u.memory))
		default:
			r.need("memory: "+p.name, u.memory < 300<<20, "< 300 MiB", "%s", mebibytes(u.memory))
		}
	}
	return nil
}

// size measures how long programs take to start, and what an idle agent holds.
func size(ctx context.Context, o options, r *result) error {
	return withStand(ctx, o, func(s *stand) error {
		for _, role := range local.Roles {
			s.Apart[role][0].Kill()
			began := time.Now()
			if err := s.Restart(ctx, role, 0); err != nil {
				return err
			}
			took := time.Since(began)
			r.need("start of a server: "+role, took < time.Second, "< 1 s", "%s", short(took))
		}
		agent, err := s.AddAgent(ctx, "real")
		if err != nil {
			return err
		}
		agent.Kill()
		began := time.Now()
		if err := agent.Start(ctx); err != nil {
			return err
		}
		took := time.Since(began)
		r.need("start of an agent until its health check is good", took < 200*time.Millisecond, "< 200 ms", "%s", short(took))
		u, err := usageOf(agent.Process().PID())
		if err != nil {
			return err
		}
		r.need("memory of an idle agent", u.memory < 30<<20, "< 30 MiB", "%s", mebibytes(u.memory))
		return nil
	})
}
