package handlers

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// RevokeStore knows which revocations their issuers have not confirmed.
type RevokeStore interface {
	PendingRevocations(ctx context.Context, ids []certctl.ID) ([]certctl.RevocationJob, error)
	FinishRevocations(ctx context.Context, ends []certctl.RevocationEnd) error
	Now(ctx context.Context) (time.Time, error)
}

// Revoker is a CA that can revoke. A CA that is none has its revocations
// recorded as not supported, never as done.
type Revoker interface {
	Revoke(ctx context.Context, job certctl.RevocationJob) error
}

// Revoke tells issuers which versions are revoked.
type Revoke struct {
	store RevokeStore
	open  OpenCA
	log   zerolog.Logger
}

// NewRevoke returns the handler.
func NewRevoke(store RevokeStore, open OpenCA, log zerolog.Logger) *Revoke {
	return &Revoke{store: store, open: open, log: log}
}

// Handle sends the revocations that the hint names.
func (h *Revoke) Handle(ctx context.Context, hint certctl.Hint) error {
	jobs, err := h.store.PendingRevocations(ctx, hint.IDs)
	if err != nil || len(jobs) == 0 {
		return err
	}
	now, err := h.store.Now(ctx)
	if err != nil {
		return err
	}
	ends := make([]certctl.RevocationEnd, len(jobs))
	for i, job := range jobs {
		ends[i] = h.revoke(ctx, job, now)
	}
	return h.store.FinishRevocations(context.WithoutCancel(ctx), ends)
}

func (h *Revoke) revoke(ctx context.Context, job certctl.RevocationJob, now time.Time) certctl.RevocationEnd {
	end := certctl.RevocationEnd{Version: job.Version.ID, State: certctl.RevocationConfirmed}
	ca, err := h.open(ctx, job.Issuer, job.Sealed)
	if err == nil {
		revoker, can := ca.(Revoker)
		if !can {
			end.State = certctl.RevocationNotSupported
			end.Message = "issuers of kind " + job.Issuer.Kind + " cannot revoke; stop using the certificate and tell whoever trusts it"
			return end
		}
		err = revoker.Revoke(ctx, job)
	}
	if err != nil {
		end.State, end.Message = certctl.RevocationFailed, certctl.ErrorMessage(err)
		end.RetryAt = now.Add(certctl.Backoff(job.Tries+1, rand.Float64()))
		h.log.Warn().Err(err).Stringer("version", job.Version.ID).Int("tries", job.Tries+1).Msg("revocation not confirmed")
	}
	return end
}
