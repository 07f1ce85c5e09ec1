package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// mostShift is how far a clock may be off. Certificates of the platform begin an
// hour or less before they are made, so a node whose clock is further behind
// believes nobody until they are older than that: clocks go forward from there.
const mostShift = 5 * time.Hour

// moveClocks gives each process a clock of its own, and lets them jump while
// submissions go on. PostgreSQL's clock is the one that counts, and stays.
func moveClocks(ctx context.Context, s *stand) error {
	clocks, err := s.startClocks(ctx)
	if err != nil {
		return err
	}
	if err := s.recovered(ctx); err != nil {
		return err
	}
	for range s.times(8, 2) {
		for _, c := range clocks {
			shift := time.Duration(s.random.Int64N(int64(mostShift))).Truncate(time.Second)
			s.fault("the clock of %s jumps to %s ahead", c.name, shift)
			if err := c.set(shift); err != nil {
				return err
			}
		}
		s.moment(ctx, time.Second)
		if err := s.recovered(ctx); err != nil {
			return err
		}
		n := s.random.IntN(len(s.Agents))
		s.fault("agent %d restarted by its own clock", n)
		s.Agents[n].Kill()
		if err := errors.Join(s.Agents[n].Start(ctx), s.recovered(ctx)); err != nil {
			return err
		}
	}
	return s.clocksBehind(ctx, clocks)
}

// clocksBehind lets every clock go back, to before what has been signed meanwhile.
func (s *stand) clocksBehind(ctx context.Context, clocks []clock) error {
	for _, back := range []time.Duration{0, -20 * time.Minute, 0} {
		for _, c := range clocks {
			s.fault("the clock of %s goes back to %s", c.name, back)
			if err := c.set(back); err != nil {
				return err
			}
		}
		if err := s.recovered(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startClocks starts servers and agents again, each with a clock.
func (s *stand) startClocks(ctx context.Context) ([]clock, error) {
	var clocks []clock
	for n, server := range s.Servers {
		c, err := newClock(s.Dir, fmt.Sprintf("server%d", n))
		if err != nil {
			return nil, err
		}
		clocks = append(clocks, c)
		server.Env = append(slices.Clone(server.Env), c.env())
		if err := errors.Join(server.Stop(ctx), server.Start(ctx)); err != nil {
			return nil, err
		}
	}
	for n, a := range s.Agents {
		c, err := newClock(s.Dir, fmt.Sprintf("agent%d", n))
		if err != nil {
			return nil, err
		}
		clocks = append(clocks, c)
		a.Env = append(slices.Clone(a.Env), c.env())
		if err := errors.Join(a.Stop(ctx), a.Start(ctx)); err != nil {
			return nil, err
		}
	}
	return clocks, nil
}
