package main

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/store"
)

// recoveryCommands look after what follows a restore.
type recoveryCommands struct {
	Status     struct{} `cmd:"" help:"Say what is known again, and what is missing."`
	Finish     struct{} `cmd:"" help:"End the recovery although agents have not been heard, which may be gone."`
	SkipStream struct{} `cmd:"" name:"skip-stream" help:"Start without the events of a bus that does not come back."`
}

// recoverFirst lets nothing work before the event stream has been read, when the
// database was restored: new events would take the places of the lost ones. One
// process with the role scheduler reads it, the others wait.
func (s *server) recoverFirst(ctx context.Context, conns map[role]*bus.Conn) error {
	r := handlers.NewRecover(s.store, s.log.With().Str("part", "recovery").Logger())
	for {
		recovery, pending, err := r.Pending(ctx)
		if err != nil || !pending {
			return err
		}
		if conn := conns[roleScheduler]; conn != nil {
			if err := s.readStream(ctx, r, recovery, conn); err == nil {
				continue
			} else if ctx.Err() == nil {
				s.log.Error().Err(err).Msg("the event stream cannot be read; certctl-server recovery skip-stream goes on without it")
			}
		} else {
			s.log.Warn().Msg("waiting for a process with the role scheduler to read the event stream")
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// readStream reads the stream unless another process does.
func (s *server) readStream(ctx context.Context, r *handlers.Recover, recovery certctl.Recovery, conn *bus.Conn) error {
	release, ok, err := s.store.TryHoldLock(ctx, "recovery-stream")
	if err != nil {
		return err
	}
	if !ok {
		return certctl.Errorf(certctl.Conflict, "another process reads the event stream")
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	if err := conn.Wait(ctx); err != nil {
		return err
	}
	return r.ReadStream(ctx, recovery, func(ctx context.Context, since time.Time, take func([]certctl.Event) error) (bool, error) {
		return bus.Replay(ctx, conn, since, take)
	})
}

// withStore runs a command that needs the database and no keys.
func withStore(ctx context.Context, c *Config, command func(*store.Store) error) error {
	st, err := store.Open(ctx, c.DatabaseURL, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	return command(st)
}

// recoveryStatus prints where the newest recovery stands.
func recoveryStatus(ctx context.Context, st *store.Store) error {
	r, err := st.Recovery(ctx)
	if certctl.ErrorCode(err) == certctl.NotFound {
		fmt.Println("this database was never restored")
		return nil
	}
	if err != nil {
		return err
	}
	state := "goes on"
	if !r.FinishedAt.IsZero() {
		state = "finished " + r.FinishedAt.Format(time.RFC3339)
	}
	fmt.Printf(`recovery         %s
backup of        %s
restored         %s
event stream     %s, %d events taken
agents           %d of %d heard
versions         %d taken from agents, %d refused, %d known from events only
`, state, r.AsOf.Format(time.RFC3339), r.BeganAt.Format(time.RFC3339), r.Stream, r.Events, r.Heard, r.Agents, r.Taken, r.Refused, r.Stubs)
	return nil
}

// recoveryFinish ends the recovery by hand.
func recoveryFinish(ctx context.Context, st *store.Store) error {
	finished, err := st.FinishRecovery(ctx, certctl.SystemActor("operator"), true)
	if err == nil && !finished {
		return certctl.Errorf(certctl.Conflict, "no recovery goes on")
	}
	return err
}

// recoverySkipStream lets servers start although the stream was not read.
func recoverySkipStream(ctx context.Context, st *store.Store) error {
	r, err := st.Recovery(ctx)
	if err != nil {
		return err
	}
	return st.EndStream(ctx, r.ID, certctl.StreamSkipped)
}
