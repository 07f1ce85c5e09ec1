package chaos

import (
	"context"
	"errors"
	"os"
	"time"
)

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
