package handlers

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// ReplaceStore settles revocations that wait for their replacements.
type ReplaceStore interface {
	SettleRevocations(ctx context.Context, versions []certctl.ID) (int, error)
}

// Replace answers hints about revocations that wait: the store decides with
// certctl.ReplacementFacts, and revokes what is replaced.
type Replace struct {
	store ReplaceStore
	log   zerolog.Logger
}

// NewReplace returns the handler.
func NewReplace(store ReplaceStore, log zerolog.Logger) *Replace {
	return &Replace{store: store, log: log}
}

// Handle looks at the revocations that the hint names.
func (r *Replace) Handle(ctx context.Context, hint certctl.Hint) error {
	n, err := r.store.SettleRevocations(ctx, hint.IDs)
	if err != nil {
		return err
	}
	if n > 0 {
		r.log.Info().Int("versions", n).Msg("replaced versions revoked")
	}
	return nil
}
