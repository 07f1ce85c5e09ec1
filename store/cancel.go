package store

import (
	"context"
	"errors"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// liveOrder is an order that is not finished.
type liveOrder struct {
	id, certificate, holder certctl.ID
	state                   certctl.OrderState
	wait                    certctl.WaitReason
	issuer                  certctl.ID
	urgency                 certctl.Urgency
	attempts                int
	csr                     []byte
}

// liveOrders locks and returns the live orders of certificates. The caller
// holds the certificates' locks, so none is made meanwhile; workers may be
// asking a CA for one that is processing.
func (t *tx) liveOrders(ctx context.Context, certificates ...certctl.ID) ([]liveOrder, error) {
	rows, err := t.Query(ctx, `
		select id, certificate_id, holder_id, state, wait, issuer_id, urgency, attempts, csr from cert_order
		where certificate_id = any($1) and live order by id for no key update`, certificates)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (o liveOrder, err error) {
		return o, row.Scan(&o.id, &o.certificate, &o.holder, &o.state, &o.wait, &o.issuer, &o.urgency, &o.attempts, &o.csr)
	})
}

// cancelOrders ends live orders that the transaction has locked. A leaf that a
// CA still returns for one of them is kept as an orphan by FinishIssue, since
// the attempt is no longer the current one.
func (t *tx) cancelOrders(ctx context.Context, team, reason string, orders []liveOrder) error {
	if len(orders) == 0 {
		return nil
	}
	ids, holders := make([]certctl.ID, len(orders)), make([]certctl.ID, len(orders))
	for i, o := range orders {
		ids[i], holders[i] = o.id, o.holder
	}
	if err := t.put(ctx, `
		update cert_order set state = 'cancelled', wait = '', message = $2, updated_at = now(), closed_at = now()
		where id = any($1)`, ids, reason); err != nil {
		return err
	}
	if err := t.put(ctx, `
		update attempt set outcome = 'cancelled', message = $2, finished_at = now() where order_id = any($1) and outcome = ''`,
		ids, reason); err != nil {
		return err
	}
	for _, o := range orders {
		t.event(team, certctl.AggregateCertificate, o.certificate, certctl.EventOrderCancelled, map[string]any{
			"certificate": o.certificate, "order": o.id, "holder": o.holder, "state": o.state,
		})
	}
	if err := t.forgetKeys(ctx, holders...); err != nil {
		return err
	}
	if err := t.abandon(ctx, ids...); err != nil {
		return err
	}
	return t.done(ctx, dueOrder, ids...)
}

// CancelOrder ends an order that nobody wants any more. The certificate stays
// as it is; a holder that has a version is looked at again in a day, so that a
// cancelled renewal does not become an expired certificate.
func (s *Store) CancelOrder(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Order, error) {
	var order certctl.Order
	err := s.write(ctx, actor, func(t *tx) error {
		o, team, err := t.lockOrder(ctx, id)
		if err != nil {
			return err
		}
		if o.state.Final() {
			return certctl.Errorf(certctl.Conflict, "this order is already %s", o.state)
		}
		if err := t.cancelOrders(ctx, team, "cancelled by "+actor.Principal.Name, []liveOrder{o}); err != nil {
			return err
		}
		if err := t.reconsider(ctx, o.holder); err != nil {
			return err
		}
		if err := t.refreshStatus(ctx, o.certificate); err != nil {
			return err
		}
		order, err = t.order(ctx, id)
		return err
	})
	return order, err
}

// lockOrder locks an order and its certificate, for somebody who may issue it,
// and returns the team's name, too.
func (t *tx) lockOrder(ctx context.Context, id certctl.ID) (o liveOrder, team string, err error) {
	if err := t.QueryRow(ctx, `select certificate_id from cert_order where id = $1`, id).Scan(&o.certificate); err != nil {
		return o, "", orNotFound(err, "order", id)
	}
	f, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbIssue, o.certificate.String())
	if certctl.ErrorCode(err) == certctl.NotFound {
		err = notFound("order", id.String())
	}
	if err != nil {
		return o, "", err
	}
	if err := t.lockCertificates(ctx, o.certificate); err != nil {
		return o, "", err
	}
	err = t.QueryRow(ctx, `
		select id, certificate_id, holder_id, state, wait, issuer_id, urgency, attempts, csr
		from cert_order where id = $1 for no key update`, id).
		Scan(&o.id, &o.certificate, &o.holder, &o.state, &o.wait, &o.issuer, &o.urgency, &o.attempts, &o.csr)
	return o, f.team, err
}

// reconsider makes holders due again a day from now, if they have a version that
// is to be renewed and nothing else will look at them before.
func (t *tx) reconsider(ctx context.Context, holders ...certctl.ID) error {
	err := t.put(ctx, `
		insert into due (kind, id, verb, lane, urgency, due_at)
		select $2, h.id, $3, $4, $5, greatest(v.renew_at, now() + interval '1 day')
		from holder h join version v on v.id = h.version_id
		where h.id = any($1) and h.ended_at is null and v.renew_at is not null
		on conflict (kind, id) do update set due_at = excluded.due_at, verb = excluded.verb`,
		holders, dueHolder, string(certctl.HintRenew), certctl.NoLane, int16(certctl.UrgencyNormal))
	return err
}

// orNotFound says what was not found, if that is why the query failed.
func orNotFound(err error, kind certctl.ObjectKind, id certctl.ID) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound(kind, id.String())
	}
	return err
}
