package handlers

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// RenewStore makes the orders of holders that are due.
type RenewStore interface {
	RenewHolders(ctx context.Context, ids []certctl.ID) (int, error)
}

// Renew answers hints about holders that may be due: the store decides with
// certctl.HolderDue and makes the orders, which carry on by themselves.
type Renew struct {
	store RenewStore
	log   zerolog.Logger
}

// NewRenew returns the handler.
func NewRenew(store RenewStore, log zerolog.Logger) *Renew { return &Renew{store: store, log: log} }

// Handle makes the orders for the holders that the hint names.
func (r *Renew) Handle(ctx context.Context, hint certctl.Hint) error {
	n, err := r.store.RenewHolders(ctx, hint.IDs)
	if err != nil {
		return err
	}
	if n > 0 {
		r.log.Info().Int("holders", len(hint.IDs)).Int("orders", n).Msg("renewals ordered")
	}
	return nil
}
