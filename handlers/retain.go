package handlers

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// RetentionStore removes what has served.
type RetentionStore interface {
	Now(ctx context.Context) (time.Time, error)
	// MakeEventPartitions makes the event table's months from a moment on; the
	// zero time is now.
	MakeEventPartitions(ctx context.Context, from time.Time) error
	DropEvents(ctx context.Context, before time.Time) (months int, err error)
	SweepOnce(ctx context.Context, kind certctl.RetentionKind, before time.Time, after certctl.ID, limit int) (certctl.Swept, error)
}

// Retain makes room: it makes the event table's coming months, drops the old
// ones, and sweeps what is past its retention. Every replica of the scheduler
// runs one; the store lets one at a time through.
type Retain struct {
	store RetentionStore
	keep  certctl.Retention
	log   zerolog.Logger
	every time.Duration
	batch int
}

// NewRetain returns the sweeper of a complete retention.
func NewRetain(store RetentionStore, keep certctl.Retention, log zerolog.Logger) *Retain {
	return &Retain{store: store, keep: keep, log: log, every: time.Hour, batch: 500}
}

// Run sweeps at once and then every hour, until ctx ends.
func (r *Retain) Run(ctx context.Context) error {
	ticker := time.NewTicker(r.every)
	defer ticker.Stop()
	for {
		counts, err := r.RunOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.log.Error().Err(err).Msg("what has served could not be swept; it is tried again")
		}
		if len(counts) > 0 {
			event := r.log.Info()
			for kind, n := range counts {
				event.Int(string(kind), n)
			}
			event.Msg("swept")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// RunOnce sweeps everything once and returns how many rows of each kind went;
// of events, how many months. The coming months come first: they must not wait
// for anything.
func (r *Retain) RunOnce(ctx context.Context) (map[certctl.RetentionKind]int, error) {
	if err := r.store.MakeEventPartitions(ctx, time.Time{}); err != nil {
		return nil, err
	}
	now, err := r.store.Now(ctx)
	if err != nil {
		return nil, err
	}
	counts := map[certctl.RetentionKind]int{}
	for _, kind := range certctl.SweptKinds {
		if before, ever := r.keep.Before(kind, now); ever {
			if err := r.sweep(ctx, kind, before, counts); err != nil {
				return counts, err
			}
		}
	}
	if before, ever := r.keep.Before(certctl.RetainEvents, now); ever {
		months, err := r.store.DropEvents(ctx, before)
		if months > 0 {
			counts[certctl.RetainEvents] = months
		}
		return counts, err
	}
	return counts, nil
}

// sweep removes one kind, batch by batch.
func (r *Retain) sweep(ctx context.Context, kind certctl.RetentionKind, before time.Time, counts map[certctl.RetentionKind]int) error {
	swept := certctl.Swept{More: true}
	for swept.More {
		var err error
		if swept, err = r.store.SweepOnce(ctx, kind, before, swept.Next, r.batch); err != nil {
			return err
		}
		if swept.Rows > 0 {
			counts[kind] += swept.Rows
		}
	}
	return nil
}
