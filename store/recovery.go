package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
)

// BeginRecovery notes that the database has just been restored from a backup of
// a moment. No server may run. The next one reads the event stream before it
// does anything else, so that nothing new takes the place in an object's history
// of what happened after the backup.
//
// Revocation lists that our own keys can sign are forgotten: the stored ones are
// older than those that were handed out, and must not be served again. The next
// ones have higher numbers, since numbers follow the clock.
func (s *Store) BeginRecovery(ctx context.Context, asOf time.Time) error {
	return s.write(ctx, certctl.SystemActor("operator"), func(t *tx) error {
		if err := t.put(ctx, `update recovery set finished_at = now() where finished_at is null`); err != nil {
			return err
		}
		id := certctl.NewID(t.now)
		if err := t.put(ctx, `insert into recovery (id, as_of) values ($1, $2)`, id, asOf); err != nil {
			return err
		}
		if err := t.put(ctx, `insert into recovery_agent (recovery_id, agent_id) select $1, id from agent where state = 'active'`, id); err != nil {
			return err
		}
		err := t.put(ctx, `delete from crl using authority a where a.id = crl.authority_id and a.sealed_key is not null`)
		return err
	})
}

// Recovery returns the newest recovery, finished or not; NotFound when nothing
// was ever restored.
func (s *Store) Recovery(ctx context.Context) (certctl.Recovery, error) {
	var r certctl.Recovery
	err := s.pool.QueryRow(ctx, `
		select r.id, as_of, began_at, finished_at, stream, events, count(a.agent_id), count(a.heard_at),
			(select count(*) from recovery_version where recovery_id = r.id and outcome = 'taken'),
			(select count(*) from recovery_version where recovery_id = r.id and outcome = 'refused'),
			(select count(*) from version_stub)
		from recovery r left join recovery_agent a on a.recovery_id = r.id
		group by r.id order by began_at desc limit 1`).
		Scan(&r.ID, &r.AsOf, &r.BeganAt, &r.FinishedAt, &r.Stream, &r.Events, &r.Agents, &r.Heard, &r.Taken, &r.Refused, &r.Stubs)
	return r, failed(err, "the recovery could not be read")
}

// Recovering reports whether a recovery goes on.
func (s *Store) Recovering(ctx context.Context) (bool, error) {
	var open bool
	err := s.pool.QueryRow(ctx, `select exists (select from recovery where finished_at is null)`).Scan(&open)
	return open, failed(err, "the recovery could not be read")
}

// EndStream notes that the event stream was read to its end, or that there is
// none, and says with the first new event that the installation recovers.
func (s *Store) EndStream(ctx context.Context, recovery certctl.ID, stream certctl.RecoveryStream) error {
	return s.write(ctx, certctl.SystemActor("operator"), func(t *tx) error {
		var asOf time.Time
		var events int
		err := t.QueryRow(ctx, `
			update recovery set stream = $2 where id = $1 and stream = 'unread' and finished_at is null returning as_of, events`,
			recovery, string(stream)).Scan(&asOf, &events)
		if err != nil {
			return orNotFound(err, "recovery whose stream is to be read", recovery)
		}
		return t.recoveryEvent(ctx, certctl.EventRecoveryBegun, map[string]any{
			"recovery": recovery, "as_of": asOf, "stream": stream, "events": events,
		})
	})
}

// FinishRecovery ends the recovery that goes on. Unless it is forced, it must be
// complete: the stream is read and every agent that was active has been heard.
// It reports whether it has ended now.
func (s *Store) FinishRecovery(ctx context.Context, actor certctl.Actor, force bool) (bool, error) {
	finished := false
	err := s.write(ctx, actor, func(t *tx) error {
		var id certctl.ID
		var heard int
		var missing []string
		err := t.QueryRow(ctx, `
			with done as (
				update recovery r set finished_at = now(), stream = case when $1 and stream = 'unread' then 'skipped' else stream end
				where finished_at is null and ($1 or stream <> 'unread' and not exists (
					select from recovery_agent x join agent on agent.id = x.agent_id
					where x.recovery_id = r.id and x.heard_at is null and agent.state <> 'retired'))
				returning id)
			select (select id from done), (select count(heard_at) from recovery_agent x join done on done.id = x.recovery_id),
				array(select agent_id::text from recovery_agent x join done on done.id = x.recovery_id where heard_at is null order by 1 limit 100)`,
			force).Scan(&id, &heard, &missing)
		if err != nil || id.IsZero() {
			return err
		}
		finished = true
		return t.recoveryEvent(ctx, certctl.EventRecoveryFinished, map[string]any{
			"recovery": id, "agents": heard, "unheard": missing, "by_hand": force,
		})
	})
	return finished && err == nil, err
}

func (t *tx) recoveryEvent(ctx context.Context, name certctl.EventName, data map[string]any) error {
	installation, err := t.installation(ctx)
	if err != nil {
		return err
	}
	data["installation"] = installation
	t.event(certctl.DefaultTeam, certctl.AggregateSystem, installation, name, data)
	return nil
}
