package store

import (
	"context"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// RecordDeadLetter keeps a message that was given up, and parks the open orders
// that it names: they wait for a person. The same message again changes nothing.
func (s *Store) RecordDeadLetter(ctx context.Context, letter certctl.DeadLetter) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		tag, err := t.Exec(ctx, `
			insert into dead_letter (id, verb, lane, ids, reason, message) values ($1, $2, $3, $4, $5, $6) on conflict (id) do nothing`,
			letter.ID, string(letter.Verb), letter.Lane, some(letter.IDs), certctl.Clip(letter.Reason, 500), letter.Message)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		t.eventOutcome(certctl.DefaultTeam, certctl.AggregateSystem, letter.ID, certctl.EventDeadLettered, certctl.OutcomeFailure, map[string]any{
			"dead_letter": letter.ID, "verb": letter.Verb, "lane": letter.Lane,
		})
		return t.park(ctx, letter.IDs)
	})
}

// park lets ready orders wait for a person.
func (t *tx) park(ctx context.Context, ids []certctl.ID) error {
	if err := t.lockCertificatesOf(ctx, `select certificate_id from cert_order where id = any($1)`, ids); err != nil {
		return err
	}
	rows, err := t.Query(ctx, `
		update cert_order set wait = $2, message = $3, error_code = 'dead_letter', updated_at = now()
		where id = any($1) and state = 'ready' returning id, certificate_id`,
		ids, string(certctl.WaitParked), "work on it was given up: see the dead letters")
	if err != nil {
		return err
	}
	var id, certificate certctl.ID
	var due []dueRow
	changed := map[certctl.ID]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&id, &certificate}, func() error {
		changed[certificate] = true
		due = append(due, dueRow{kind: dueOrder, id: id, verb: certctl.HintExpire, at: t.now.Add(csrReminder)})
		return nil
	}); err != nil {
		return err
	}
	if err := t.due(ctx, due...); err != nil {
		return err
	}
	return t.refreshStatus(ctx, keysOf(changed)...)
}

// ListDeadLetters returns one page of those that nobody has replayed or
// discarded yet, newest first.
func (s *Store) ListDeadLetters(ctx context.Context, actor certctl.Actor, request certctl.PageRequest) (certctl.Page[certctl.DeadLetter], error) {
	var page certctl.Page[certctl.DeadLetter]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := certctl.Authorize(actor.Principal, certctl.VerbRead, certctl.Object{Kind: certctl.ObjectDeadLetter}); err != nil {
			return err
		}
		c := &conditions{}
		c.add("o.replayed_at is null and o.discarded_at is null")
		ids, limit, err := t.listIDs(ctx, "dead_letter o", c, request)
		if err != nil {
			return err
		}
		rows, err := t.Query(ctx, `select id, verb, lane, ids, reason, message, created_at from dead_letter where id = any($1)`, ids)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, scanDeadLetter)
		read := make(map[certctl.ID]certctl.DeadLetter, len(all))
		for _, letter := range all {
			read[letter.ID] = letter
		}
		page = pageOf(inOrder(ids, read), limit, func(d certctl.DeadLetter) certctl.ID { return d.ID })
		return err
	})
	return page, err
}

func scanDeadLetter(row pgx.CollectableRow) (d certctl.DeadLetter, err error) {
	return d, row.Scan(&d.ID, &d.Verb, &d.Lane, &d.IDs, &d.Reason, &d.Message, &d.At)
}

// ReplayDeadLetter has what a dead letter names looked at again now.
func (s *Store) ReplayDeadLetter(ctx context.Context, actor certctl.Actor, id certctl.ID) error {
	return s.write(ctx, actor, func(t *tx) error {
		letter, err := t.closeDeadLetter(ctx, id, "replayed_at", certctl.EventDeadLetterReplayed)
		if err != nil {
			return err
		}
		if err := t.unpark(ctx, letter.IDs); err != nil {
			return err
		}
		if len(letter.IDs) > 0 && slices.Contains(certctl.HintVerbs, letter.Verb) {
			t.hints(letter.Verb, letter.Lane, letter.IDs)
		}
		return nil
	})
}

// unpark lets parked orders be worked on again.
func (t *tx) unpark(ctx context.Context, ids []certctl.ID) error {
	if err := t.lockCertificatesOf(ctx, `select certificate_id from cert_order where id = any($1)`, ids); err != nil {
		return err
	}
	rows, err := t.Query(ctx, `
		update cert_order set wait = '', message = '', error_code = '', lost_leases = 0, updated_at = now()
		where id = any($1) and state = 'ready' and wait = $2 returning id, certificate_id, holder_id, issuer_id, urgency`,
		ids, string(certctl.WaitParked))
	if err != nil {
		return err
	}
	changed := map[certctl.ID]bool{}
	orders, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o certctl.Order, err error) {
		err = row.Scan(&o.ID, &o.Certificate, &o.Holder, &o.Issuer, &o.Urgency)
		o.State, changed[o.Certificate] = certctl.OrderReady, true
		return o, err
	})
	if err != nil {
		return err
	}
	if err := t.moveOn(ctx, orders, nil); err != nil {
		return err
	}
	return t.refreshStatus(ctx, keysOf(changed)...)
}

// DiscardDeadLetter takes a dead letter off the list. Orders that it parked stay
// parked until they are renewed or cancelled.
func (s *Store) DiscardDeadLetter(ctx context.Context, actor certctl.Actor, id certctl.ID) error {
	return s.write(ctx, actor, func(t *tx) error {
		_, err := t.closeDeadLetter(ctx, id, "discarded_at", certctl.EventDeadLetterDiscarded)
		return err
	})
}

// closeDeadLetter marks an open dead letter; column is one of its two ends.
func (t *tx) closeDeadLetter(ctx context.Context, id certctl.ID, column string, event certctl.EventName) (letter certctl.DeadLetter, err error) {
	if err := certctl.Authorize(t.actor.Principal, certctl.VerbUpdate, certctl.Object{Kind: certctl.ObjectDeadLetter}); err != nil {
		return letter, err
	}
	rows, err := t.Query(ctx, `
		update dead_letter set `+column+` = now() where id = $1 and replayed_at is null and discarded_at is null
		returning id, verb, lane, ids, reason, message, created_at`, id)
	if err != nil {
		return letter, err
	}
	letter, err = pgx.CollectExactlyOneRow(rows, scanDeadLetter)
	if err != nil {
		return letter, orNotFound(err, "dead letter", id)
	}
	t.event(certctl.DefaultTeam, certctl.AggregateSystem, id, event, map[string]any{
		"dead_letter": id, "verb": letter.Verb, "lane": letter.Lane,
	})
	return letter, nil
}
