package store

import (
	"context"

	"github.com/certctl/certctl"
)

// changeRollout locks a rollout for somebody who may have begun it, and changes
// it.
func (s *Store) changeRollout(ctx context.Context, actor certctl.Actor, id certctl.ID, name certctl.EventName, change func(*rolling) error) (certctl.Rollout, error) {
	var rollout certctl.Rollout
	err := s.write(ctx, actor, func(t *tx) error {
		r, err := t.lockRollout(ctx, id)
		if err != nil {
			return err
		}
		if err := t.ofRolloutTeam(r.Rollout); err != nil {
			return err
		}
		if err := t.may(r.Verb(), certctl.ObjectCertificate, found{team: r.Team}); err != nil {
			return err
		}
		if err := change(r); err != nil {
			return err
		}
		t.event(teamOf(r.Team), certctl.AggregateRollout, r.ID, name, map[string]any{"rollout": r.ID, "wave": r.Wave + 1})
		rollout, err = t.rollout(ctx, id)
		return err
	})
	return rollout, err
}

// wrongState says that a rollout cannot be changed so.
func (r *rolling) wrongState(what string) error {
	return certctl.Errorf(certctl.Conflict, "this rollout is %s: it cannot be %s", r.State, what)
}

// StopRollout holds a rollout until it is resumed. What is ordered goes on.
func (s *Store) StopRollout(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Rollout, error) {
	return s.changeRollout(ctx, actor, id, certctl.EventRolloutStopped, func(r *rolling) error {
		if r.State != certctl.RolloutRunning {
			return r.wrongState("stopped")
		}
		_, err := r.Exec(ctx, `update rollout set state = 'stopped', updated_at = now() where id = $1`, r.ID)
		return err
	})
}

// ResumeRollout has a rollout go on that was stopped or has halted, at a pace
// that still meets its deadline. The failures that are known are not counted
// again.
func (s *Store) ResumeRollout(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Rollout, error) {
	return s.changeRollout(ctx, actor, id, certctl.EventRolloutResumed, func(r *rolling) error {
		if r.State != certctl.RolloutStopped && r.State != certctl.RolloutHalted {
			return r.wrongState("resumed")
		}
		if err := r.look(ctx); err != nil {
			return err
		}
		left := 0
		if err := r.QueryRow(ctx, `select count(*) from rollout_item where rollout_id = $1 and state = any('{selected,pending}') and place <= $2`,
			r.ID, r.Plan.Size()).Scan(&left); err != nil {
			return err
		}
		if _, err := r.Exec(ctx, `
			update rollout set state = 'running', plan = $2, base = $3, forgiven = $4, message = '', released_at = now(), updated_at = now(),
				began_at = case when began_at is not null then now() end where id = $1`,
			r.ID, r.Plan.Replan(r.Wave, left, r.now, r.Deadline), r.wave.Items-r.wave.Pending, r.wave.Failed); err != nil {
			return err
		}
		return r.next(ctx, r.now, nil)
	})
}

// CancelRollout ends a rollout for good. What is ordered goes on; revocations that
// wait for what was not ordered yet are cancelled.
func (s *Store) CancelRollout(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Rollout, error) {
	return s.changeRollout(ctx, actor, id, certctl.EventRolloutCancelled, func(r *rolling) error {
		if r.State.Final() {
			return r.wrongState("cancelled")
		}
		c := &conditions{}
		c.add("v.id in (select i.version_id from rollout_item i join revocation r on r.version_id = i.version_id"+
			" where i.rollout_id = ? and i.state = 'pending' and r.state = 'waiting' and r.rollout_id = i.rollout_id)", r.ID)
		waiting, err := r.revocables(ctx, c)
		if err != nil {
			return err
		}
		if err := r.cancelRevocations(ctx, waiting, "the rollout was cancelled by "+actor.Principal.Name); err != nil {
			return err
		}
		if _, err := r.Exec(ctx, `
			with ended as (update rollout_item set state = 'skipped' where rollout_id = $1 and state = any('{selected,pending}'))
			update rollout set state = 'cancelled', updated_at = now(), closed_at = now() where id = $1`, r.ID); err != nil {
			return err
		}
		return r.done(ctx, dueRollout, r.ID)
	})
}
