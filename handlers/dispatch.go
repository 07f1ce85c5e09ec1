package handlers

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// DueStore hands out what is due.
type DueStore interface {
	// ClaimDue moves the due time of up to limit rows on by patience and
	// returns the hints for them.
	ClaimDue(ctx context.Context, limit int, patience time.Duration) ([]certctl.Hint, error)
}

// Dispatcher gives hints for whatever is due. Every replica of the scheduler
// runs one; claims exclude each other in the database. It is the only thing in
// the platform that looks for work by itself: whatever else was lost, a row
// that is due is hinted again within a minute.
type Dispatcher struct {
	store    DueStore
	announce certctl.Announcer
	log      zerolog.Logger
	idle     time.Duration // between two looks when nothing is due
	patience time.Duration // until a hinted row is due again
	limit    int
}

// NewDispatcher returns a dispatcher with the shipped pace: a look a second
// when idle, hints repeated after a minute.
func NewDispatcher(store DueStore, announce certctl.Announcer, log zerolog.Logger) *Dispatcher {
	return &Dispatcher{store: store, announce: announce, log: log, idle: time.Second, patience: time.Minute, limit: 5000}
}

// Run dispatches until ctx ends.
func (d *Dispatcher) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		wait := d.idle
		n, err := d.runOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			d.log.Error().Err(err).Msg("due work could not be claimed")
		case n >= d.limit:
			wait = 0
		}
		timer.Reset(wait)
	}
}

// runOnce claims and announces once, and returns how many rows it claimed.
func (d *Dispatcher) runOnce(ctx context.Context) (int, error) {
	hints, err := d.store.ClaimDue(ctx, d.limit, d.patience)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, hint := range hints {
		n += len(hint.IDs)
	}
	if n > 0 {
		d.announce(certctl.Effects{Hints: hints})
		d.log.Debug().Int("rows", n).Int("hints", len(hints)).Msg("dispatched")
	}
	return n, nil
}
