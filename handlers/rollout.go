package handlers

import (
	"context"

	"github.com/certctl/certctl"
)

// RolloutStore carries mass changes on.
type RolloutStore interface {
	StepRollouts(ctx context.Context, ids []certctl.ID) error
}

// Rollouts answers hints about mass changes that may go on: the store decides
// with certctl.Rollout.Next what the next step is, does it, and says when to look
// again.
type Rollouts struct{ store RolloutStore }

// NewRollouts returns the handler.
func NewRollouts(store RolloutStore) *Rollouts { return &Rollouts{store: store} }

// Handle does the next step of the rollouts that the hint names.
func (r *Rollouts) Handle(ctx context.Context, hint certctl.Hint) error {
	return r.store.StepRollouts(ctx, hint.IDs)
}
