package chaos

import (
	"context"
	"errors"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// silence is longer than what anybody waits for a single answer.
const silence = 45 * time.Second

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

// part has database and bus fall silent in turn: nothing arrives, and nothing
// says that it will not.
func part(ctx context.Context, s *stand) error {
	for range s.times(2, 1) {
		for _, silent := range []struct {
			name string
			*local.Proxy
		}{{"PostgreSQL", s.DatabaseProxy}, {"NATS", s.NATSProxies[0]}} {
			s.moment(ctx, 2*time.Second)
			s.fault("%s is silent for %s", silent.name, silence)
			silent.Silence()
			s.pass(ctx, silence)
			silent.Heal()
			if err := s.recovered(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func dropDatabase(ctx context.Context, s *stand) error {
	for range s.times(100, 10) {
		s.moment(ctx, 500*time.Millisecond)
		s.fault("all database connections dropped")
		s.DatabaseProxy.Drop()
	}
	return s.recovered(ctx)
}
