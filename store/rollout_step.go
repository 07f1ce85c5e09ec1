package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

const (
	// rolloutBatch bounds what one step of a rollout does: the next one follows at
	// once, and others get their turn meanwhile.
	rolloutBatch = 500

	// rolloutIdle is how often a rollout that a person must resume is looked at for
	// what became urgent.
	rolloutIdle = time.Minute
)

func rolloutDue(id certctl.ID, at time.Time) dueRow {
	return dueRow{kind: dueRollout, id: id, verb: certctl.HintRollout, urgency: certctl.UrgencyNormal, at: at}
}

// rolling is a rollout that the transaction has locked, with what a step found.
type rolling struct {
	*tx
	certctl.Rollout
	first int // place of the wave's first item
	wave  certctl.RolloutWave
}

// StepRollouts has mass changes go on: each does one step and says when the next
// is due.
func (s *Store) StepRollouts(ctx context.Context, ids []certctl.ID) error {
	for _, id := range ids {
		if err := s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error { return t.stepRollout(ctx, id) }); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) stepRollout(ctx context.Context, id certctl.ID) error {
	r, err := t.lockRollout(ctx, id)
	if err != nil {
		return err
	}
	if r.State.Final() {
		return t.done(ctx, dueRollout, id)
	}
	again := t.now.Add(rolloutIdle)
	if r.State == certctl.RolloutRunning {
		if more, err := r.prepare(ctx); err != nil || more {
			return r.next(ctx, t.now, err)
		}
	}
	if more, err := r.releaseUrgent(ctx); err != nil || more {
		return r.next(ctx, t.now, err)
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	if r.State == certctl.RolloutRunning {
		if again, err = r.advance(ctx); err != nil || again.IsZero() {
			return err
		}
	}
	return r.next(ctx, again, nil)
}

// next says when the rollout is looked at again.
func (r *rolling) next(ctx context.Context, at time.Time, err error) error {
	if err != nil {
		return err
	}
	if !at.After(r.now) {
		r.hint(certctl.HintRollout, certctl.NoLane, r.ID)
		at = r.now.Add(time.Second)
	}
	return r.due(ctx, rolloutDue(r.ID, at))
}

// lockRollout reads a rollout and keeps others from changing it.
func (t *tx) lockRollout(ctx context.Context, id certctl.ID) (*rolling, error) {
	if err := t.put(ctx, `select from rollout where id = $1 for no key update`, id); err != nil {
		return nil, err
	}
	all, err := t.rollouts(ctx, []certctl.ID{id})
	if err == nil && len(all) == 0 {
		err = notFound("rollout", id.String())
	}
	if err != nil {
		return nil, err
	}
	r := &rolling{tx: t, Rollout: all[0], first: 1}
	for i := range min(r.Wave, len(r.Plan.Waves)) {
		r.first += r.Plan.Waves[i]
	}
	return r, nil
}

// prepare revokes a batch of what is to be revoked now, and lets the rest wait
// for its replacement. It reports whether there may be more.
func (r *rolling) prepare(ctx context.Context) (more bool, err error) {
	rows, err := r.Query(ctx, `
		select version_id, place from rollout_item where rollout_id = $1 and state = 'selected' order by place limit $2`, r.ID, rolloutBatch)
	if err != nil {
		return false, err
	}
	places := map[certctl.ID]int{}
	var id certctl.ID
	place := 0
	if _, err := pgx.ForEachRow(rows, []any{&id, &place}, func() error {
		places[id] = place
		return nil
	}); err != nil || len(places) == 0 {
		return false, err
	}
	ids := sortedIDs(places)
	if err := r.lockCertificatesOf(ctx, `select certificate_id from version where id = any($1)`, ids); err != nil {
		return false, err
	}
	c := &conditions{}
	c.add("v.id = any(?)", ids)
	versions, err := r.revocables(ctx, c)
	if err != nil {
		return false, err
	}
	over, held := versions, []revocable(nil)
	if r.Replace != certctl.ReplaceNo {
		if over, held, err = r.replaceable(ctx, versions); err != nil {
			return false, err
		}
	}
	now := versions
	if r.Replace == certctl.ReplaceBefore {
		now = over
		if err := r.awaitReplacement(ctx, held, r.Revoke, r.ID); err != nil {
			return false, err
		}
	}
	if _, err := r.tx.revoke(ctx, now, r.Revoke); err != nil {
		return false, err
	}
	return true, r.prepared(ctx, places, versions, over)
}

// prepared notes what the waves are to replace, and what nobody holds: that is
// done.
func (r *rolling) prepared(ctx context.Context, places map[certctl.ID]int, all, over []revocable) error {
	certificates := map[certctl.ID]bool{}
	for _, v := range all {
		certificates[v.certificate] = true
	}
	states := make(map[int]string, len(places))
	for _, place := range places {
		states[place] = "pending"
		if place > r.Plan.Size() {
			states[place] = "done"
		}
	}
	for _, v := range over {
		states[places[v.id]] = "done"
	}
	at, to := make([]int, 0, len(states)), make([]string, 0, len(states))
	for place, state := range states {
		at, to = append(at, place), append(to, state)
	}
	if _, err := r.Exec(ctx, `
		update rollout_item i set state = new.state from unnest($2::int[], $3::text[]) as new(place, state)
		where i.rollout_id = $1 and i.place = new.place and i.state = 'selected'`, r.ID, at, to); err != nil {
		return err
	}
	return r.refreshStatus(ctx, keysOf(certificates)...)
}

// look brings the states of items up to date, those of the wave and of the ones
// before, and counts the wave.
func (r *rolling) look(ctx context.Context) error {
	last := r.first - 1
	if r.Wave < len(r.Plan.Waves) {
		last += r.Plan.Waves[r.Wave]
	}
	if _, err := r.Exec(ctx, `
		update rollout_item i set state = seen.state from (
			select i.place, case
				when h.ended_at is not null or c.archived_at is not null or c.issuers = '{}' or i.state = 'pending' and c.paused then 'skipped'
				when h.version_id is distinct from i.version_id then
					case when served.broken > 0 then 'failed' when served.verified >= served.bindings then 'done' else 'ordered' end
				when i.state = 'pending' then 'pending'
				when exists (select from cert_order where certificate_id = i.certificate_id and holder_id = i.holder_id and live) then 'ordered'
				else 'failed' end as state
			from rollout_item i join holder h on h.id = i.holder_id join certificate c on c.id = i.certificate_id
			cross join lateral (
				select count(b.id) as bindings, count(d.id) filter (where d.state in ('verified', 'installed')) as verified,
					count(d.id) filter (where d.state in ('rolled_back', 'failed')) as broken
				from binding b left join deployment d on d.binding_id = b.id and d.version_id = h.version_id
				where b.holder_id = h.id and b.unbound_at is null) served
			where i.rollout_id = $1 and (i.state = any('{ordered,failed}') or i.state = 'pending' and i.place between $2 and $3)) seen
		where i.rollout_id = $1 and i.place = seen.place and i.state <> seen.state`, r.ID, r.first, last); err != nil {
		return err
	}
	rows, err := r.Query(ctx, `select state, count(*) from rollout_item where rollout_id = $1 and place between $2 and $3 group by state`, r.ID, r.first, last)
	if err != nil {
		return err
	}
	var state string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
		addItems(&r.wave, state, n)
		return nil
	})
	return err
}

// addItems counts items of a state.
func addItems(w *certctl.RolloutWave, state string, n int) {
	w.Items += n
	switch state {
	case "selected", "pending":
		w.Pending += n
	case "ordered":
		w.Ordered += n
	case "done":
		w.Done += n
	case "failed":
		w.Failed += n
	case "skipped":
		w.Skipped += n
	}
}

// advance does what certctl.Rollout.Next says, and returns when to look again;
// zero when it is over.
func (r *rolling) advance(ctx context.Context) (time.Time, error) {
	step := r.Next(r.wave, r.now)
	switch {
	case step.Complete:
		return time.Time{}, r.complete(ctx)
	case step.Halt:
		return r.now.Add(rolloutIdle), r.halt(ctx)
	case step.NextWave:
		_, err := r.Exec(ctx, `
			update rollout set wave = wave + 1, base = 0, began_at = null, released_at = now(), forgiven = 0, updated_at = now() where id = $1`, r.ID)
		return r.now, err
	}
	if err := r.beginWave(ctx); err != nil || step.Release == 0 {
		return step.At, err
	}
	if _, err := r.Exec(ctx, `update rollout set released_at = now(), updated_at = now() where id = $1`, r.ID); err != nil {
		return step.At, err
	}
	n, err := r.release(ctx, `i.place between $2 and $3`, min(step.Release, rolloutBatch), certctl.UrgencyBulk, r.first, r.first+r.wave.Items-1)
	if n < step.Release {
		step.At = r.now
	}
	return step.At, err
}

// beginWave starts the clock of a wave's pace, once.
func (r *rolling) beginWave(ctx context.Context) error {
	if !r.Began.IsZero() {
		return nil
	}
	r.event(teamOf(r.Team), certctl.AggregateRollout, r.ID, certctl.EventRolloutWave, map[string]any{
		"rollout": r.ID, "wave": r.Wave + 1, "items": r.wave.Items,
	})
	_, err := r.Exec(ctx, `update rollout set began_at = now(), updated_at = now() where id = $1`, r.ID)
	return err
}

// releaseUrgent orders what does not wait for its wave, whatever the state: a
// compromised key, or a tenth of the life left.
func (r *rolling) releaseUrgent(ctx context.Context) (more bool, err error) {
	n, err := r.release(ctx, `(v.revocation = $2 or v.not_after - (v.not_after - v.not_before) / 10 <= now())`, rolloutBatch,
		certctl.UrgencyNow, string(certctl.ReasonKeyCompromise))
	return n == rolloutBatch, err
}

// release orders replacements for the first pending items that a clause selects.
// A holder that has an order already keeps it, and one that has got another
// version meanwhile needs none.
func (r *rolling) release(ctx context.Context, clause string, limit int, urgency certctl.Urgency, args ...any) (int, error) {
	rows, err := r.Query(ctx, `
		select i.place, i.certificate_id, i.holder_id, h.version_id is distinct from i.version_id
		from rollout_item i join version v on v.id = i.version_id join holder h on h.id = i.holder_id
		where i.rollout_id = $1 and i.state = 'pending' and `+clause+` order by i.place limit `+limitText(limit), append([]any{r.ID}, args...)...)
	if err != nil {
		return 0, err
	}
	var places []int
	var specs []orderSpec
	certificates := map[certctl.ID]bool{}
	place, replaced := 0, false
	spec := orderSpec{Origin: certctl.OriginBulk, Urgency: urgency, Reason: "rollout", Override: r.Override}
	if _, err := pgx.ForEachRow(rows, []any{&place, &spec.Certificate, &spec.Holder, &replaced}, func() error {
		places = append(places, place)
		certificates[spec.Certificate] = true
		if !replaced {
			specs = append(specs, spec)
		}
		return nil
	}); err != nil || len(places) == 0 {
		return 0, err
	}
	return len(places), r.order(ctx, places, specs, keysOf(certificates), urgency)
}

func (r *rolling) order(ctx context.Context, places []int, specs []orderSpec, certificates []certctl.ID, urgency certctl.Urgency) error {
	if err := r.lockCertificates(ctx, certificates...); err != nil {
		return err
	}
	var err error
	if urgency == certctl.UrgencyNow {
		err = r.orderFirst(ctx, specs, certificates)
	} else {
		_, err = r.newOrders(ctx, specs)
	}
	if err != nil {
		return err
	}
	if _, err := r.Exec(ctx, `
		update rollout_item i set state = 'ordered', released_at = now(),
			order_id = (select id from cert_order where certificate_id = i.certificate_id and holder_id = i.holder_id and live)
		where i.rollout_id = $1 and i.place = any($2) and i.state = 'pending'`, r.ID, places); err != nil {
		return err
	}
	return r.refreshStatus(ctx, certificates...)
}

// halt stops the rollout until a person resumes it.
func (r *rolling) halt(ctx context.Context) error {
	r.eventOutcome(teamOf(r.Team), certctl.AggregateRollout, r.ID, certctl.EventRolloutHalted, certctl.OutcomeFailure, map[string]any{
		"rollout": r.ID, "wave": r.Wave + 1, "failed": r.wave.Failed, "items": r.wave.Items,
	})
	_, err := r.Exec(ctx, `update rollout set state = 'halted', message = $2, updated_at = now() where id = $1`, r.ID,
		haltMessage(r.Wave+1, r.wave))
	return err
}

func (r *rolling) complete(ctx context.Context) error {
	all, err := r.waveCounts(ctx, r.Rollout)
	if err != nil {
		return err
	}
	var sum certctl.RolloutWave
	for _, w := range all {
		sum.Done, sum.Failed, sum.Skipped, sum.Ordered = sum.Done+w.Done, sum.Failed+w.Failed, sum.Skipped+w.Skipped, sum.Ordered+w.Ordered
	}
	outcome := certctl.OutcomeSuccess
	if sum.Failed > 0 {
		outcome = certctl.OutcomeFailure
	}
	r.eventOutcome(teamOf(r.Team), certctl.AggregateRollout, r.ID, certctl.EventRolloutCompleted, outcome, map[string]any{
		"rollout": r.ID, "items": r.Total, "done": sum.Done, "failed": sum.Failed, "skipped": sum.Skipped, "open": sum.Ordered,
	})
	if _, err := r.Exec(ctx, `update rollout set state = 'completed', updated_at = now(), closed_at = now() where id = $1`, r.ID); err != nil {
		return err
	}
	return r.done(ctx, dueRollout, r.ID)
}
