package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// claimed is a due row that was claimed.
type claimed struct {
	kind  string
	id    certctl.ID
	verb  certctl.HintVerb
	lane  string
	agent certctl.ID
}

// ClaimDue claims up to limit rows that are due, moves their due times on by
// patience, and returns the hints for them. A claim ends the wait of what it
// claims: an order or deployment that waited for its next try may be tried.
//
// Lanes and urgencies get equal shares of the limit, so that neither one
// issuer's queue nor a million renewals keep others waiting; within a share the
// oldest go first. Rows that another replica is claiming are passed over. What
// is claimed and then lost is due again after patience.
func (s *Store) ClaimDue(ctx context.Context, limit int, patience time.Duration) ([]certctl.Hint, error) {
	var hints []certctl.Hint
	err := s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
		// The shares are found by jumping from one to the next in due_order, which
		// costs an index probe each, however many rows are in them.
		rows, err := t.Query(ctx, `
			with recursive share as (
				(select verb, lane, urgency from due order by verb, lane, urgency limit 1)
				union all
				select next.verb, next.lane, next.urgency from share s cross join lateral (
					select verb, lane, urgency from due where (verb, lane, urgency) > (s.verb, s.lane, s.urgency)
					order by verb, lane, urgency limit 1) next),
			busy as (select s.* from share s where exists (
				select from due where verb = s.verb and lane = s.lane and urgency = s.urgency and due_at <= now())),
			claimed as (
				select mine.kind, mine.id from busy b cross join lateral (
					select kind, id from due
					where verb = b.verb and lane = b.lane and urgency = b.urgency and due_at <= now()
					order by due_at limit greatest($1 / (select count(*) from busy), 1) for update skip locked) mine)
			update due set due_at = now() + $2 from claimed c where due.kind = c.kind and due.id = c.id
			returning due.kind, due.id, due.verb, due.lane, due.agent_id`, limit, patience)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c claimed, err error) {
			return c, row.Scan(&c.kind, &c.id, &c.verb, &c.lane, &c.agent)
		})
		if err != nil {
			return err
		}
		if all, err = t.stillHeld(ctx, all); err != nil {
			return err
		}
		if err := t.endWaits(ctx, all); err != nil {
			return err
		}
		if err := t.awaitKeys(ctx, deploymentsOf(all)...); err != nil {
			return err
		}
		hints = hintsFor(all)
		return nil
	})
	return hints, err
}

func deploymentsOf(all []claimed) (ids []certctl.ID) {
	for _, c := range all {
		if c.kind == dueDeployment {
			ids = append(ids, c.id)
		}
	}
	return ids
}

// hintsFor merges what was claimed into hints, by verb and lane. Bells name
// agents, all others what is due.
func hintsFor(all []claimed) []certctl.Hint {
	type lane struct {
		verb certctl.HintVerb
		name string
	}
	open, rung := map[lane]int{}, map[certctl.ID]bool{}
	var hints []certctl.Hint
	for _, c := range all {
		id := c.id
		if c.verb == certctl.HintBell {
			if id = c.agent; rung[id] {
				continue
			}
			rung[id] = true
		}
		key := lane{c.verb, c.lane}
		i, known := open[key]
		if !known || len(hints[i].IDs) == certctl.MaxHintIDs {
			i = len(hints)
			open[key], hints = i, append(hints, certctl.Hint{Verb: c.verb, Lane: c.lane})
		}
		hints[i].IDs = append(hints[i].IDs, id)
	}
	return hints
}

// endWaits lets what was claimed be worked on. Only what waited is written, and
// nothing that somebody is changing at this moment: he holds its row, will want the
// row in due that is held here, and sets both.
func (t *tx) endWaits(ctx context.Context, all []claimed) error {
	ids := map[string][]certctl.ID{}
	for _, c := range all {
		if c.verb != certctl.HintExpire {
			ids[c.kind] = append(ids[c.kind], c.id)
		}
	}
	for kind, statement := range map[string]string{
		dueOrder: `update cert_order set wait = case when state = 'awaiting_csr' then 'holder_offline' else '' end
			where id = any(array(select id from cert_order where id = any($1) and (state = any('{ready,processing}') and wait <> ''
				or state = 'awaiting_csr' and wait = 'backoff') order by id for no key update skip locked))`,
		dueDeployment: `update deployment set wait = '' where id = any(array(
			select id from deployment where id = any($1) and wait not in ('', 'key') order by id for no key update skip locked))`,
		dueBinding: `update binding set wait = '' where id = any(array(
			select id from binding where id = any($1) and wait <> '' order by id for no key update skip locked))`,
		dueErasure: `with free as (update key_erasure set wait = '' where id = any(array(
				select id from key_erasure where id = any($1) and wait <> '' order by id for no key update skip locked)))
			update due set due_at = now() + interval '` + erasureReminder + `' where kind = 'erasure' and id = any($1)`,
		dueTest: `delete from due where kind = 'test' and id = any($1)
			and not exists (select from target_test where id = due.id and finished_at is null and not_after > now())`,
	} {
		if len(ids[kind]) == 0 {
			continue
		}
		if err := t.put(ctx, statement, ids[kind]); err != nil {
			return err
		}
	}
	return nil
}

// RemindOrders announces once more which orders wait for somebody outside: for
// their client's CSR, for an approval. Each comes up again a day later. Of a
// shared key that nobody has made yet, it asks another member.
func (s *Store) RemindOrders(ctx context.Context, ids []certctl.ID) error {
	return s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
		ids, err := t.remakeShared(ctx, ids)
		if err != nil || len(ids) == 0 {
			return err
		}
		rows, err := t.Query(ctx, `
			select o.id, o.certificate_id, c.name, team.name, o.holder_id, o.state, o.wait
			from cert_order o join certificate c on c.id = o.certificate_id join team on team.id = c.team_id
			where o.id = any($1) and o.live order by o.id for no key update of o`, ids)
		if err != nil {
			return err
		}
		var o certctl.Order
		var name, team string
		var again []dueRow
		_, err = pgx.ForEachRow(rows, []any{&o.ID, &o.Certificate, &name, &team, &o.Holder, &o.State, &o.Wait}, func() error {
			if o.State == certctl.OrderProcessing || o.State == certctl.OrderReady && o.Wait != certctl.WaitParked {
				return nil // it has moved on
			}
			again = append(again, dueRow{kind: dueOrder, id: o.ID, verb: certctl.HintExpire, at: t.now.Add(csrReminder)})
			event := certctl.EventOrderDelayed
			if o.State == certctl.OrderAwaitingCSR {
				event = certctl.EventOrderAwaitingCSR
			}
			t.event(team, certctl.AggregateCertificate, o.Certificate, event, map[string]any{
				"certificate": o.Certificate, "name": name, "order": o.ID, "holder": o.Holder, "state": o.State, "code": o.Wait,
			})
			return nil
		})
		if err != nil {
			return err
		}
		return t.due(ctx, again...)
	})
}
