package store

import (
	"context"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// RenewCertificate orders a new leaf now, for one holder or for all of them. An
// order that is open already is pulled forward instead: whatever it waits for,
// it is tried at once. A request repeated under its idempotency key gets the
// orders that were open after the first one.
func (s *Store) RenewCertificate(ctx context.Context, actor certctl.Actor, ref string, request certctl.RenewRequest, idem certctl.Idempotency) ([]certctl.Order, error) {
	var orders []certctl.Order
	err := s.write(ctx, actor, func(t *tx) error {
		h, err := t.hold(ctx, certctl.VerbIssue, ref)
		if err != nil {
			return err
		}
		first, err := t.once(ctx, idem, h.id)
		if err != nil {
			return err
		}
		if !first.id.IsZero() {
			orders, err = t.ordersAt(ctx, first, request.Holder)
			return err
		}
		if err := t.mayRenew(ctx, h, request); err != nil {
			return err
		}
		ids, err := t.renew(ctx, h, request)
		if err != nil {
			return err
		}
		if err := t.refreshStatus(ctx, h.id); err != nil {
			return err
		}
		orders, err = t.orders(ctx, ids)
		return err
	})
	if err != nil {
		return nil, err
	}
	return orders, nil
}

// ordersAt returns the orders of a certificate that were open when the
// transaction of an earlier request ended.
func (t *tx) ordersAt(ctx context.Context, first earlier, holder certctl.ID) ([]certctl.Order, error) {
	var ids []certctl.ID
	if err := t.QueryRow(ctx, `
		select array(select id from cert_order where certificate_id = $1 and created_at <= $2
			and (closed_at is null or closed_at > $2) and ($3::uuid is null or holder_id = $3) order by id)`,
		first.id, first.at, holder).Scan(&ids); err != nil {
		return nil, err
	}
	return t.orders(ctx, ids)
}

// mayRenew refuses what a pause or a freeze forbids.
func (t *tx) mayRenew(ctx context.Context, h *held, request certctl.RenewRequest) error {
	if err := h.refusePaused(); err != nil {
		return err
	}
	return t.frozen(ctx, h, request.Override)
}

// renewed returns the holders that a renewal by hand is about.
func (h *held) renewed(only certctl.ID) ([]heldHolder, error) {
	if h.monitored() {
		return nil, certctl.Errorf(certctl.Conflict, "%s has no issuer: it is only watched", h.name).
			WithRemedy("give it an issuer")
	}
	if len(h.holders) == 0 {
		return nil, certctl.Errorf(certctl.Conflict, "nobody holds a key of %s: it is %s", h.name, noTargetReason)
	}
	if only.IsZero() {
		return h.holders, nil
	}
	i := slices.IndexFunc(h.holders, func(x heldHolder) bool { return x.id == only })
	if i < 0 {
		return nil, certctl.Errorf(certctl.NotFound, "%s has no holder %s", h.name, only)
	}
	return h.holders[i : i+1], nil
}

// renew makes or pulls forward the orders of a held certificate, and returns
// their ids.
func (t *tx) renew(ctx context.Context, h *held, request certctl.RenewRequest) ([]certctl.ID, error) {
	holders, err := h.renewed(request.Holder)
	if err != nil {
		return nil, err
	}
	live, err := t.liveOrders(ctx, h.id)
	if err != nil {
		return nil, err
	}
	var ids []certctl.ID
	var specs []orderSpec
	var open []liveOrder
	for _, holder := range holders {
		i := slices.IndexFunc(live, func(o liveOrder) bool { return o.holder == holder.id })
		if i >= 0 {
			open, ids = append(open, live[i]), append(ids, live[i].id)
			continue
		}
		specs = append(specs, orderSpec{Certificate: h.id, Holder: holder.id, Origin: certctl.OriginAPI,
			Urgency: certctl.UrgencyNow, Reason: "requested", Override: request.Override})
	}
	if err := t.pullForward(ctx, open); err != nil {
		return nil, err
	}
	made, err := t.newOrders(ctx, specs)
	for _, o := range made {
		ids = append(ids, o.ID)
	}
	return ids, err
}

// pullForward ends the waiting of open orders, whose back-off begins anew. One that is at the CA is left
// alone, unless it waits for a record that a person says is there now; what waits for a person or a client
// goes on waiting for him.
func (t *tx) pullForward(ctx context.Context, open []liveOrder) error {
	if err := t.lookForRecords(ctx, open); err != nil {
		return err
	}
	var ids, holders []certctl.ID
	var orders []certctl.Order
	for _, o := range open {
		if o.state == certctl.OrderProcessing {
			continue
		}
		ids, holders = append(ids, o.id), append(holders, o.holder)
		orders = append(orders, certctl.Order{ID: o.id, Holder: o.holder, State: o.state, Issuer: o.issuer, Urgency: certctl.UrgencyNow})
	}
	if len(ids) == 0 {
		return nil
	}
	if err := t.put(ctx, `
		update cert_order set urgency = 0, lost_leases = 0, waived = attempts, updated_at = now(), wait = case
			when state = 'ready' then '' when state = 'awaiting_csr' and wait = 'backoff' then 'holder_offline' else wait end
		where id = any($1)`, ids); err != nil {
		return err
	}
	specs := make([]orderSpec, len(holders))
	for i, holder := range holders {
		specs[i].Holder = holder
	}
	by, err := t.orderHolders(ctx, specs)
	if err != nil {
		return err
	}
	return t.moveOn(ctx, orders, by)
}

// lookForRecords has those of the orders looked at now whose paused attempts wait
// until somebody has published a validation record.
func (t *tx) lookForRecords(ctx context.Context, open []liveOrder) error {
	lanes, ids := map[certctl.ID]string{}, []certctl.ID(nil)
	for _, o := range open {
		if o.state == certctl.OrderProcessing && o.wait == certctl.WaitRecord {
			lanes[o.id], ids = o.issuer.String(), append(ids, o.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `
		update cert_order o set wait = '', updated_at = now() from attempt a
		where o.id = any($1) and a.order_id = o.id and a.n = o.attempts and a.paused returning o.id`, ids)
	if err != nil {
		return err
	}
	looked, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	due := make([]dueRow, len(looked))
	for i, id := range looked {
		t.hint(certctl.HintIssue, lanes[id], id)
		due[i] = dueRow{kind: dueOrder, id: id, verb: certctl.HintIssue, lane: lanes[id], urgency: certctl.UrgencyNow, at: t.now}
	}
	if err != nil {
		return err
	}
	return t.due(ctx, due...)
}
