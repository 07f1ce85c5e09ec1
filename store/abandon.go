package store

import (
	"context"
	"errors"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// settle forgets what is under way at CAs for orders that have their leaves.
func (t *tx) settle(ctx context.Context, issued []*finishing) error {
	var ids []certctl.ID
	for _, f := range issued {
		if f.external {
			ids = append(ids, f.order.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if err := t.dropProofs(ctx, `p.external_id = any(array(select id from external_order where order_id = any($1)))`, ids); err != nil {
		return err
	}
	return t.put(ctx, `delete from external_order where order_id = any($1) and abandoned_at is null`, ids)
}

// abandonExternal is abandon for attempts that have failed.
func (t *tx) abandonExternal(ctx context.Context, failed []*finishing) error {
	var ids []certctl.ID
	for _, f := range failed {
		if f.external {
			ids = append(ids, f.order.ID)
		}
	}
	return t.abandon(ctx, ids...)
}

// abandon has what orders have under way at CAs ended there: it is wanted no more.
func (t *tx) abandon(ctx context.Context, orders ...certctl.ID) error {
	if len(orders) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `
		update external_order set abandoned_at = now() where order_id = any($1) and abandoned_at is null returning id, issuer_id`, orders)
	if err != nil {
		return err
	}
	var due []dueRow
	var id, issuer certctl.ID
	_, err = pgx.ForEachRow(rows, []any{&id, &issuer}, func() error {
		due = append(due, dueRow{kind: dueExternal, id: id, verb: certctl.HintAbandon, lane: issuer.String(), at: t.now.Add(agentReminder)})
		t.hint(certctl.HintAbandon, issuer.String(), id)
		return nil
	})
	if err != nil || len(due) == 0 {
		return err
	}
	if err := t.dropProofs(ctx, `p.external_id = any(array(select id from external_order where order_id = any($1)))`, orders); err != nil {
		return err
	}
	return t.due(ctx, due...)
}

// AbandonedOrders returns those of the orders at CAs that are to be ended. It
// claims nothing: to end an order twice is harmless.
func (s *Store) AbandonedOrders(ctx context.Context, ids []certctl.ID) ([]certctl.AbandonJob, error) {
	var jobs []certctl.AbandonJob
	err := s.read(ctx, func(t *tx) error {
		rows, err := t.Query(ctx, `
			select x.id, x.tries, x.issuer_id, a.order_id, a.n, a.issuer_id, a.external_url, a.state from external_order x join lateral (
				select * from attempt where order_id = x.order_id and issuer_id = x.issuer_id
				-- A later attempt that waits for this to be ended has no order there yet.
				order by (external_url <> '') desc, n desc limit 1) a on true
			where x.id = any($1) and x.abandoned_at is not null order by x.id`, ids)
		if err != nil {
			return err
		}
		issuers, orders := map[certctl.ID]bool{}, []certctl.ID{}
		jobs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (j certctl.AbandonJob, err error) {
			a := &j.Attempt
			err = row.Scan(&j.ID, &j.Tries, &j.Issuer.ID, &a.Order, &a.N, &a.Issuer, &a.ExternalURL, &a.State)
			issuers[j.Issuer.ID], orders = true, append(orders, j.Attempt.Order)
			return j, err
		})
		if err != nil || len(jobs) == 0 {
			return err
		}
		read, err := t.orders(ctx, orders)
		if err != nil {
			return err
		}
		known, sealed, err := t.issuersWithSecrets(ctx, keysOf(issuers))
		for i := range jobs {
			jobs[i].Order, jobs[i].Issuer, jobs[i].Sealed = read[i], known[jobs[i].Issuer.ID], sealed[jobs[i].Issuer.ID]
		}
		return err
	})
	return jobs, err
}

// FinishAbandon records that nothing is left of an order at its CA, or when it is
// tried again. A leaf that came of it nevertheless is kept as an orphan and
// revoked.
func (s *Store) FinishAbandon(ctx context.Context, end certctl.AbandonEnd) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		var issuer certctl.ID
		err := t.QueryRow(ctx, `select issuer_id from external_order where id = $1 and abandoned_at is not null for update`, end.ID).Scan(&issuer)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // somebody else has ended it
		}
		if err != nil {
			return err
		}
		if end.Err != nil {
			return t.abandonLater(ctx, end, issuer)
		}
		if len(end.Leaf) > 0 {
			err = t.keepOrphan(ctx, end, issuer)
		} else {
			err = t.returnBudget(ctx, end.Order)
		}
		if err != nil {
			return err
		}
		return t.abandoned(ctx, end)
	})
}

func (t *tx) abandoned(ctx context.Context, end certctl.AbandonEnd) error {
	if err := t.put(ctx, `delete from external_order where id = $1 and abandoned_at is not null`, end.ID); err != nil {
		return err
	}
	return t.done(ctx, dueExternal, end.ID)
}

// abandonLater tries again, until the CA has let the order expire by itself.
func (t *tx) abandonLater(ctx context.Context, end certctl.AbandonEnd, issuer certctl.ID) error {
	var tries int
	if err := t.QueryRow(ctx, `update external_order set tries = tries + 1 where id = $1 returning tries`, end.ID).Scan(&tries); err != nil {
		return err
	}
	if tries >= certctl.MaxAbandonTries {
		return t.abandoned(ctx, end)
	}
	return t.due(ctx, dueRow{kind: dueExternal, id: end.ID, verb: certctl.HintAbandon, lane: issuer.String(), at: end.RetryAt})
}

func (t *tx) keepOrphan(ctx context.Context, end certctl.AbandonEnd, issuer certctl.ID) error {
	leaf, err := certctl.ParseLeaf(end.Leaf)
	if err != nil {
		return err
	}
	all, err := t.finishings(ctx, []certctl.AttemptEnd{{Order: end.Order, N: end.N, Leaf: end.Leaf, Chain: end.Chain}})
	if err != nil {
		return err
	}
	all[0].leaf, all[0].version, all[0].order.Issuer = leaf, certctl.NewID(t.now), issuer
	if err := t.storeVersions(ctx, nil, all); err != nil {
		return err
	}
	c := &conditions{}
	c.add("v.fingerprint = ?", leaf.Fingerprint[:])
	c.add("v.origin = 'orphan' and v.revoked_at is null and v.not_after > now()")
	found, err := t.revocables(ctx, c)
	if err != nil {
		return err
	}
	if _, err := t.revoke(ctx, found, certctl.ReasonSuperseded); err != nil {
		return err
	}
	return t.refreshStatus(ctx, all[0].order.Certificate)
}
