package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
)

// sweeps removes one batch of each kind: $1 is the moment before which it must
// have served, $2 where the batch begins, $3 its size. The answer is how many
// rows went, the last row looked at, and how many were looked at.
//
// Orders and deployments are walked by their ids, which sort by time, so that
// the ones that stay are looked at once a sweep and need no index of their own.
// Rows that somebody works on are left to the next sweep.
var sweeps = map[certctl.RetentionKind]string{
	certctl.RetainOrders: `
		with seen as (select id from cert_order where id > $2 and id < uuid7_floor($1) order by id limit $3),
		doomed as (
			select o.id from seen join cert_order o on o.id = seen.id
			where o.live is null and o.closed_at < $1
				and not exists (select from holder where id = o.holder_id and version_id = o.version_id)
				and exists (select from cert_order n where n.certificate_id = o.certificate_id and n.id > o.id and n.holder_id = o.holder_id)
			for update of o skip locked),
		attempts as (delete from attempt a using doomed where a.order_id = doomed.id),
		slots as (delete from issuer_slot s using doomed where s.order_id = doomed.id),
		gone as (delete from cert_order o using doomed where o.id = doomed.id returning o.id)
		select (select count(*) from gone), (select max(id::text)::uuid from seen), (select count(*) from seen)`,
	certctl.RetainDeployments: `
		with seen as (select id from deployment where id > $2 and id < uuid7_floor($1) order by id limit $3),
		doomed as (
			select d.id from seen join deployment d on d.id = seen.id join binding b on b.id = d.binding_id
			where d.state in ('superseded', 'verified', 'installed') and d.updated_at < $1
				and not exists (select from holder where id = b.holder_id and version_id = d.version_id and b.unbound_at is null)
				and (d.state = 'superseded' or b.forgotten_at is not null or exists (
					select from deployment n where n.binding_id = d.binding_id and n.state in ('verified', 'installed') and n.updated_at > d.updated_at))
			for update of d skip locked),
		gone as (delete from deployment d using doomed where d.id = doomed.id returning d.id)
		select (select count(*) from gone), (select max(id::text)::uuid from seen), (select count(*) from seen)`,
	certctl.RetainDeadLetters: sweepAll(`
		select id from dead_letter where coalesce(replayed_at, discarded_at) < $1 and id > $2 order by id limit $3 for update skip locked`,
		`dead_letter x using doomed where x.id = doomed.id`),
	certctl.RetainNotifications: sweepAll(`
		select id from notification where closed_at < $1 and id > $2 and id < uuid7_floor($1) order by id limit $3 for update skip locked`,
		`notification x using doomed where x.id = doomed.id`),
	certctl.RetainIdempotency: sweepAll(`
		select principal_id, key from idempotency where created_at < $1 and principal_id > $2 order by created_at limit $3 for update skip locked`,
		`idempotency x using doomed where x.principal_id = doomed.principal_id and x.key = doomed.key`),
	certctl.RetainNonces: sweepAll(`
		select nonce from agent_nonce where expires_at < $1 and agent_id > $2 order by expires_at limit $3 for update skip locked`,
		`agent_nonce x using doomed where x.nonce = doomed.nonce`),
	// What is due still has left something to remove.
	certctl.RetainTrials: sweepAll(`
		select id from trial where outcome <> 'running' and ended_at < $1 and id > $2 and id < uuid7_floor($1)
			and not exists (select from due where kind = 'trial' and id = trial.id) order by id limit $3 for update skip locked`,
		`trial x using doomed where x.id = doomed.id`),
	// A machine whose enrolment was not answered repeats it with the same token.
	certctl.RetainJoinTokens: `
		with doomed as (
			select t.id from join_token t
			where (t.expires_at < $1 or t.created_at < $1 and (t.uses_left <= 0 or t.revoked_at < $1)) and t.id > $2
				and not exists (select from join_use u join agent a on a.id = u.agent_id where u.token_id = t.id and a.enrolled_at >= $1)
			order by t.id limit $3 for update skip locked),
		uses as (delete from join_use u using doomed where u.token_id = doomed.id),
		gone as (delete from join_token x using doomed where x.id = doomed.id returning x.id)
		select count(*), null::uuid, count(*) from gone`,
}

// sweepAll removes whatever a query finds: each batch begins at the beginning.
func sweepAll(doomed, from string) string {
	return `with doomed as (` + doomed + `), gone as (delete from ` + from + ` returning 1) select count(*), null::uuid, count(*) from gone`
}

// SweepOnce removes one batch of a kind that had served before a moment,
// beginning after an id of an earlier batch. One process at a time does it: to
// the others nothing is left. The moment is recorded with the batch, so that
// CheckIntegrity knows what may be missing.
func (s *Store) SweepOnce(ctx context.Context, kind certctl.RetentionKind, before time.Time, after certctl.ID, limit int) (certctl.Swept, error) {
	query, known := sweeps[kind]
	if !known {
		return certctl.Swept{}, certctl.Errorf(certctl.Internal, "nobody knows how %q are swept", kind)
	}
	var swept certctl.Swept
	err := s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
		if mine, err := t.alone(ctx, "retention"); err != nil || !mine {
			return err
		}
		seen := 0
		if err := t.QueryRow(ctx, query, before, orFirst(after), limit).Scan(&swept.Rows, &swept.Next, &seen); err != nil {
			return err
		}
		swept.More = seen == limit
		if swept.Rows == 0 {
			return nil
		}
		return t.moveHorizon(ctx, kind, before)
	})
	return swept, err
}

// alone reports whether no other transaction does what has the name, and keeps
// others from beginning until this one ends.
func (t *tx) alone(ctx context.Context, name string) (mine bool, err error) {
	err = t.QueryRow(ctx, `select pg_try_advisory_xact_lock($1)`, lockKey(name)).Scan(&mine)
	return mine, err
}

// moveHorizon records that rows of a kind from before a moment may be gone.
func (t *tx) moveHorizon(ctx context.Context, kind certctl.RetentionKind, before time.Time) error {
	err := t.put(ctx, `
		insert into retention_horizon as h (kind, at) values ($1, $2)
		on conflict (kind) do update set at = greatest(h.at, excluded.at)`, string(kind), before)
	return err
}

// orFirst stands for the beginning where an id is absent, which would be NULL.
func orFirst(id certctl.ID) certctl.ID {
	if id.IsZero() {
		id[15] = 1
	}
	return id
}
