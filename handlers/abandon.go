package handlers

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// AbandonStore knows which orders at CAs nobody wants any more.
type AbandonStore interface {
	AbandonedOrders(ctx context.Context, ids []certctl.ID) ([]certctl.AbandonJob, error)
	FinishAbandon(ctx context.Context, end certctl.AbandonEnd) error
	Now(ctx context.Context) (time.Time, error)
}

// Abandoner is a CA at which an order can go on without us. It ends what an
// attempt has left there, its proofs included, and returns the leaf that came of
// it nevertheless, or an empty one. To do so twice is harmless.
type Abandoner interface {
	Abandon(ctx context.Context, job certctl.AbandonJob) (certctl.Issued, error)
}

// Abandon ends at their CAs the orders that were cancelled here, failed, or went
// to another issuer.
type Abandon struct {
	store AbandonStore
	open  OpenCA
	log   zerolog.Logger
}

// NewAbandon returns the handler.
func NewAbandon(store AbandonStore, open OpenCA, log zerolog.Logger) *Abandon {
	return &Abandon{store: store, open: open, log: log}
}

// Handle ends the orders that the hint names.
func (h *Abandon) Handle(ctx context.Context, hint certctl.Hint) error {
	jobs, err := h.store.AbandonedOrders(ctx, hint.IDs)
	if err != nil || len(jobs) == 0 {
		return err
	}
	now, err := h.store.Now(ctx)
	if err != nil {
		return err
	}
	for _, job := range jobs {
		if err := h.store.FinishAbandon(context.WithoutCancel(ctx), h.abandon(ctx, job, now)); err != nil {
			return err
		}
	}
	return nil
}

func (h *Abandon) abandon(ctx context.Context, job certctl.AbandonJob, now time.Time) certctl.AbandonEnd {
	end := certctl.AbandonEnd{ID: job.ID, Order: job.Order.ID, N: job.Attempt.N}
	var issued certctl.Issued
	ca, err := h.open(ctx, job.Issuer, job.Sealed)
	if err == nil {
		if abandoner, can := ca.(Abandoner); can {
			issued, err = abandoner.Abandon(ctx, job)
		}
	}
	if err != nil {
		end.Err, end.RetryAt = err, now.Add(certctl.Backoff(job.Tries+1, rand.Float64()))
		h.log.Warn().Err(err).Stringer("order", job.Order.ID).Int("tries", job.Tries+1).Msg("order not ended at its CA")
		return end
	}
	end.Leaf, end.Chain = issued.Leaf, issued.Chain
	h.log.Info().Stringer("order", job.Order.ID).Bool("leaf", len(end.Leaf) > 0).Msg("order ended at its CA")
	return end
}
