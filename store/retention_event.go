package store

import (
	"context"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// eventMonths is how many months of the event table are made at a time: this
// one and the next two.
const eventMonths = 3

// dropChunk is how many objects' heads are moved in one transaction, and how
// many events of no month are deleted in one.
const dropChunk = 2000

// MakeEventPartitions makes the event partitions of a moment's month and the
// next two; the zero time is now. It is safe to call at any time from any
// replica. Without the partition of its month an event goes to event_default,
// and moves when the partition is made.
func (s *Store) MakeEventPartitions(ctx context.Context, from time.Time) error {
	return s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
		if from.IsZero() {
			from = t.now
		}
		from = from.UTC()
		for month := range eventMonths {
			first := time.Date(from.Year(), from.Month()+time.Month(month), 1, 0, 0, 0, 0, time.UTC)
			if err := t.put(ctx, "select make_event_partition($1::timestamptz::date)", first); err != nil {
				return err
			}
		}
		return nil
	})
}

// eventMonth is a partition of the event table.
type eventMonth struct {
	table       string
	first, next time.Time
}

// DropEvents drops the months of the event table that ended before a moment,
// each as a whole and with an event that says so, and returns how many. A month
// with an event that is not published yet stays. What has come to event_default
// from such a time goes with it.
func (s *Store) DropEvents(ctx context.Context, before time.Time) (int, error) {
	months, err := s.eventMonths(ctx)
	if err != nil {
		return 0, err
	}
	dropped := 0
	for _, month := range months {
		if month.next.After(before) {
			continue
		}
		switch err := s.moveHeads(ctx, month.table, month.next); {
		case missingTable(err):
			continue // another replica has just dropped it
		case err != nil:
			return dropped, err
		}
		gone, err := s.dropMonth(ctx, month)
		if err != nil {
			return dropped, err
		}
		if gone {
			dropped++
		}
	}
	// Months end at months' ends: the default partition keeps to them.
	first := time.Date(before.UTC().Year(), before.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	return dropped, s.dropStray(ctx, first)
}

// eventMonths returns the partitions, oldest first.
func (s *Store) eventMonths(ctx context.Context) ([]eventMonth, error) {
	rows, err := s.pool.Query(ctx, `
		select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where i.inhparent = 'event'::regclass and c.relname ~ '^event_[0-9]{6}$' order by c.relname`)
	if err != nil {
		return nil, failed(err, "the months of the event table could not be read")
	}
	months, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m eventMonth, err error) {
		if err := row.Scan(&m.table); err != nil {
			return m, err
		}
		m.first, err = time.Parse("200601", strings.TrimPrefix(m.table, "event_"))
		m.next = m.first.AddDate(0, 1, 0)
		return m, err
	})
	return months, failed(err, "the months of the event table could not be read")
}

// moveHeads notes in the objects' heads which of their events are about to go.
// It is done before and apart, in small transactions, since writers of events
// wait for the heads: until the month is gone, it only makes CheckIntegrity
// look at less.
func (s *Store) moveHeads(ctx context.Context, table string, before time.Time) error {
	after, more := orFirst(certctl.NoID), true
	for more {
		err := s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
			var last certctl.ID
			var n int
			err := t.QueryRow(ctx, `
				with top as (
					select object_id, max(sequence) as sequence from `+pgx.Identifier{table}.Sanitize()+`
					where object_id > $1 and id < uuid7_floor($2) group by object_id order by object_id limit $3),
				locked as (select h.object_id from event_head h join top on top.object_id = h.object_id order by h.object_id for update of h),
				moved as (
					update event_head h set dropped = top.sequence from top, locked
					where h.object_id = top.object_id and locked.object_id = h.object_id and h.dropped < top.sequence)
				select (select max(object_id::text)::uuid from top), (select count(*) from top)`, after, before, dropChunk).Scan(&last, &n)
			after, more = last, n == dropChunk
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropMonth drops one month, unless another process is at it or something in it
// is still to be published. Taking it off the table needs a moment in which
// nobody uses that: when there is none, it is tried again with the next sweep.
func (s *Store) dropMonth(ctx context.Context, month eventMonth) (gone bool, err error) {
	err = s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
		mine, err := t.alone(ctx, "drop-events")
		if err != nil || !mine {
			return err
		}
		if err := t.put(ctx, `set local lock_timeout = '3s'`); err != nil {
			return err
		}
		var there, waits bool
		if err := t.QueryRow(ctx, `
			select to_regclass($1) is not null, exists (select from event_out where id >= uuid7_floor($2) and id < uuid7_floor($3))`,
			month.table, month.first, month.next).Scan(&there, &waits); err != nil || !there || waits {
			return err
		}
		table := pgx.Identifier{month.table}.Sanitize()
		events := 0
		if err := t.QueryRow(ctx, `select count(*) from `+table).Scan(&events); err != nil {
			return err
		}
		if err := t.dropped(ctx, month.next, events); err != nil {
			return err
		}
		if err := t.put(ctx, `alter table event detach partition `+table); err != nil {
			return err
		}
		_, err = t.Exec(ctx, `drop table `+table)
		gone = err == nil
		return err
	})
	return gone && err == nil, err
}

// dropStray deletes what has come to event_default from months that are over.
func (s *Store) dropStray(ctx context.Context, before time.Time) error {
	if err := s.moveHeads(ctx, "event_default", before); err != nil {
		return err
	}
	for more := true; more; {
		err := s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
			tag, err := t.Exec(ctx, `
				delete from event_default where id in (
					select id from event_default e where id < uuid7_floor($1) and not exists (select from event_out where id = e.id)
					order by id limit $2 for update skip locked)`, before, dropChunk)
			n := int(tag.RowsAffected())
			if more = n == dropChunk; err != nil || n == 0 {
				return err
			}
			return t.dropped(ctx, before, n)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropped records that events from before a moment are gone, and says so.
func (t *tx) dropped(ctx context.Context, before time.Time, events int) error {
	if err := t.moveHorizon(ctx, certctl.RetainEvents, before); err != nil {
		return err
	}
	id, err := t.installation(ctx)
	if err != nil {
		return err
	}
	t.event(certctl.DefaultTeam, certctl.AggregateSystem, id, certctl.EventEventsDropped, map[string]any{
		"installation": id, "before": before, "events": events,
	})
	return nil
}
