package store

import (
	"context"

	"github.com/certctl/certctl"
)

// Trials is the store as the driver of an issuer sees it that works on tests: what
// it calls an order is a test, and no budget is spent.
type Trials struct{ *Store }

// Trials returns the store for tests.
func (s *Store) Trials() Trials { return Trials{s} }

// SaveAttemptState records how far a test has come.
func (s Trials) SaveAttemptState(ctx context.Context, trial certctl.ID, _ int, worker, externalURL string, state []byte) error {
	return s.ofTrial(ctx, trial, worker, `external_url = $3, state = $4`, externalURL, state)
}

// RecordStep tells people how far it has come. A step that is repeated, since its
// worker died, is told once.
func (s Trials) RecordStep(ctx context.Context, trial certctl.ID, worker, step string) error {
	return s.ofTrial(ctx, trial, worker, `
		steps = case when steps->-1->>'step' = $3 then steps else steps || jsonb_build_array(jsonb_build_object('step', $3::text, 'at', now())) end`, step)
}

// HoldExternal is Store.HoldExternal for a test.
func (s Trials) HoldExternal(ctx context.Context, hold certctl.ExternalHold) (bool, error) {
	var held bool
	err := s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		if err := t.put(ctx, `
			insert into external_order (id, account_id, names, issuer_id, trial_id)
			select $1, $2, $3, $4, id from trial where id = $5 and outcome = 'running' on conflict do nothing`,
			certctl.NewID(t.now), hold.Account, hold.Names[:], hold.Issuer, hold.Order); err != nil {
			return err
		}
		return t.QueryRow(ctx, `select exists (select from external_order where account_id = $1 and names = $2 and trial_id = $3)`,
			hold.Account, hold.Names[:], hold.Order).Scan(&held)
	})
	return held, err
}

// SpendExternal spends nothing: staging servers count apart.
func (Trials) SpendExternal(context.Context, certctl.ExternalSpend) (certctl.BudgetFull, error) {
	return certctl.BudgetFull{}, nil
}

// CountExternalFailure counts nothing, for the same reason.
func (Trials) CountExternalFailure(context.Context, certctl.ID, certctl.ID, string) error { return nil }

// PutValidationRecords records nothing: a test says what is to be published while it
// waits, and nobody watches that afterwards.
func (Trials) PutValidationRecords(context.Context, certctl.ID, certctl.ID, []certctl.ValidationRecord, float64) error {
	return nil
}
