package chaos

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// killServers never kills all at once: that is the database scenario's work.
func killServers(ctx context.Context, s *stand) error {
	for range s.times(20, 2) {
		s.moment(ctx, 2*time.Second)
		n := s.random.IntN(len(s.Servers))
		s.fault("kill -9 of server %d", n)
		s.Servers[n].Kill()
		s.moment(ctx, time.Second)
		if err := errors.Join(s.Servers[n].Start(ctx), s.recovered(ctx)); err != nil {
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
		if err := errors.Join(s.Agents[n].Start(ctx), s.recovered(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// killRoles kills each role several times, in an order of chance.
func killRoles(ctx context.Context, s *stand) error {
	for range s.times(6, 1) {
		for _, i := range s.random.Perm(len(local.Roles)) {
			role := local.Roles[i]
			s.moment(ctx, 2*time.Second)
			n := s.random.IntN(len(s.Apart[role]))
			s.fault("kill -9 of %s %d", role, n)
			s.Apart[role][n].Kill()
			if s.random.IntN(2) == 0 { // in half of the cases the others do without
				if err := s.recovered(ctx); err != nil {
					return err
				}
			}
			if err := errors.Join(s.Restart(ctx, role, n), s.recovered(ctx)); err != nil {
				return err
			}
		}
	}
	return nil
}

// pastLeases is longer than a worker's lease on an attempt.
const pastLeases = 40 * time.Second

func pauseServer(ctx context.Context, s *stand) error {
	for range s.times(3, 1) {
		s.moment(ctx, 2*time.Second)
		n := s.random.IntN(len(s.Servers))
		s.fault("server %d stopped for %s", n, pastLeases)
		if err := s.pause(ctx, s.Servers[n]); err != nil {
			return err
		}
	}
	return nil
}

// pauseRoles stops one process of each role at the same time.
func pauseRoles(ctx context.Context, s *stand) error {
	for range s.times(3, 1) {
		s.moment(ctx, 2*time.Second)
		var stopped []*local.Server
		for _, role := range local.Roles {
			n := s.random.IntN(len(s.Apart[role]))
			s.fault("%s %d stopped for %s", role, n, pastLeases)
			stopped = append(stopped, s.Apart[role][n])
		}
		if err := s.pause(ctx, stopped...); err != nil {
			return err
		}
	}
	return nil
}

// pause stops processes for longer than their leases and lets them go on with
// what they held.
func (s *stand) pause(ctx context.Context, servers ...*local.Server) error {
	for _, server := range servers {
		if err := server.Process().Signal(syscall.SIGSTOP); err != nil {
			return err
		}
	}
	err := s.recovered(ctx) // the others do it
	s.pass(ctx, pastLeases)
	for _, server := range servers {
		err = errors.Join(err, server.Process().Signal(syscall.SIGCONT))
	}
	if err != nil {
		return err
	}
	return s.recovered(ctx)
}
