package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// UnpublishedEvents returns events of at least an age that are not on the bus yet,
// oldest ids first, without those that were set aside. Nobody claims them: what
// two processes publish has one message id, so that the stream keeps one.
func (s *Store) UnpublishedEvents(ctx context.Context, age time.Duration, limit int) ([]certctl.Event, error) {
	return s.storedEvents(ctx, `
		select e.body, e.trace from (
			select id from event_out where aside_at is null and id < uuid7_floor(now() - $2::interval) order by id limit $1) o
		cross join lateral (select body, trace from event where event.id = o.id) e order by o.id`, limit, age)
}

// EventsSince returns the events whose ids come after one, in the order of ids.
// Ids become visible out of order, by as much as a transaction takes: this
// refills a stream that was lost, and is no cursor.
func (s *Store) EventsSince(ctx context.Context, after certctl.ID, limit int) ([]certctl.Event, error) {
	if after.IsZero() {
		after[15] = 1 // the absent id would be NULL
	}
	return s.storedEvents(ctx, `select body, trace from event where id > $1 order by id limit $2`, after, limit)
}

// storedEvents decodes event bodies. Encoded again they give the stored bytes.
func (s *Store) storedEvents(ctx context.Context, query string, args ...any) ([]certctl.Event, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, failed(err, "events could not be read")
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e certctl.Event, err error) {
		var body []byte
		var trace string
		if err := row.Scan(&body, &trace); err != nil {
			return e, err
		}
		err = json.Unmarshal(body, &e)
		e.Trace = trace
		return e, err
	})
	return events, failed(err, "events could not be read")
}

// MarkPublished forgets that events had to be published. The commit is not
// waited for: after a crash they are published again under the same message ids.
func (s *Store) MarkPublished(ctx context.Context, ids []certctl.ID) error {
	if len(ids) == 0 {
		return nil
	}
	err := transact(ctx, s.pool, beginWrite, &tx{}, func(t *tx) error {
		if err := t.put(ctx, `set local synchronous_commit = off`); err != nil {
			return err
		}
		// Somebody else who deletes a row at this moment has published it, too. Each row
		// is looked up by itself: a plan that was made while the table was empty, as it
		// mostly is, would walk all of it, and all that was deleted from it lately.
		return t.put(ctx, `
			delete from event_out where ctid = any(array(
				select o.ctid from unnest($1::uuid[]) as sent(id) cross join lateral (
					select ctid from event_out where id = sent.id limit 1 for update skip locked) o))`, ids)
	})
	return failed(err, "published events could not be marked")
}

// SetAsideEvent keeps an event that cannot be published from holding up others.
// It stays in event_out, where CheckIntegrity and alerts see it.
func (s *Store) SetAsideEvent(ctx context.Context, id certctl.ID, reason string) error {
	_, err := s.pool.Exec(ctx, `update event_out set aside_at = now(), reason = $2 where id = $1`, id, certctl.Clip(reason, 1000))
	return failed(err, "the event could not be set aside")
}
