package handlers

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// RecoveryStore knows what a restored installation has to learn again.
type RecoveryStore interface {
	Recovery(ctx context.Context) (certctl.Recovery, error)
	TakeEvents(ctx context.Context, recovery certctl.ID, events []certctl.Event) (int, error)
	EndStream(ctx context.Context, recovery certctl.ID, stream certctl.RecoveryStream) error
	FinishRecovery(ctx context.Context, actor certctl.Actor, force bool) (bool, error)
}

// EventSource hands over the events that the stream has had since a moment, and
// reports whether there is a stream.
type EventSource func(ctx context.Context, since time.Time, take func([]certctl.Event) error) (found bool, err error)

// Recover brings back, after a restore, what happened after the backup.
//
// First, before anything else works, it takes in the events that the stream
// still has. The rest comes from agents with their questions for work: see
// store.MailboxFor. When all have spoken, the recovery ends by itself.
type Recover struct {
	store RecoveryStore
	log   zerolog.Logger
	every time.Duration
}

// NewRecover returns the handler.
func NewRecover(store RecoveryStore, log zerolog.Logger) *Recover {
	return &Recover{store: store, log: log, every: 2 * time.Second}
}

// streamMargin is how long before the moment of the backup the stream is read:
// a transaction that was open then has older events than some that are in it,
// and an event is published after it is recorded.
const streamMargin = time.Hour

// ReadStream takes in the stream of a recovery that has not done so.
func (r *Recover) ReadStream(ctx context.Context, recovery certctl.Recovery, source EventSource) error {
	taken := 0
	found, err := source(ctx, recovery.AsOf.Add(-streamMargin), func(events []certctl.Event) error {
		n, err := r.store.TakeEvents(ctx, recovery.ID, events)
		taken += n
		return err
	})
	if err != nil {
		return err
	}
	stream := certctl.StreamRead
	if !found {
		stream = certctl.StreamAbsent
	}
	r.log.Warn().Time("as_of", recovery.AsOf).Str("stream", string(stream)).Int("events", taken).Msg("recovering after a restore")
	return r.store.EndStream(ctx, recovery.ID, stream)
}

// Pending returns the recovery whose stream is to be read, if there is one.
func (r *Recover) Pending(ctx context.Context) (recovery certctl.Recovery, pending bool, err error) {
	recovery, err = r.store.Recovery(ctx)
	if certctl.ErrorCode(err) == certctl.NotFound {
		return recovery, false, nil
	}
	return recovery, err == nil && recovery.FinishedAt.IsZero() && recovery.Stream == certctl.StreamUnread, err
}

// Run ends the recovery when every agent has been heard.
func (r *Recover) Run(ctx context.Context) error {
	ticker := time.NewTicker(r.every)
	defer ticker.Stop()
	for {
		finished, err := r.store.FinishRecovery(ctx, certctl.SystemActor("scheduler"), false)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.log.Error().Err(err).Msg("the recovery could not be looked at")
		case finished:
			r.log.Warn().Msg("the recovery has ended: every agent that was active has been heard")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
