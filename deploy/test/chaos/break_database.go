package chaos

import (
	"context"
	"errors"
	"time"
)

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
