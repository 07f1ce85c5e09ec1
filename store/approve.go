package store

import (
	"context"

	"github.com/certctl/certctl"
)

// ApproveOrder lets an order go on that waits for a person. Whoever asked for it
// cannot approve it: approval is a second person's word.
func (s *Store) ApproveOrder(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Order, error) {
	var order certctl.Order
	err := s.write(ctx, actor, func(t *tx) error {
		locked, team, err := t.lockOrder(ctx, id)
		if err != nil {
			return err
		}
		if locked.state != certctl.OrderAwaitingApproval {
			return certctl.Errorf(certctl.Conflict, "this order is %s: it does not wait for approval", locked.state)
		}
		o, err := t.order(ctx, id)
		if err != nil {
			return err
		}
		if !o.Requester.IsZero() && o.Requester == actor.Principal.ID {
			return certctl.Errorf(certctl.Denied, "%s has asked for this order and cannot approve it", actor.Principal.Name).
				WithRemedy("let somebody else approve it")
		}
		o.State, o.Wait = startOf(false, o.CSR != nil, o.HolderKind)
		if err := t.put(ctx, `update cert_order set state = $2, wait = $3, updated_at = now() where id = $1`,
			id, string(o.State), string(o.Wait)); err != nil {
			return err
		}
		name := certctl.EventOrderReady
		if o.State == certctl.OrderAwaitingCSR {
			name = certctl.EventOrderAwaitingCSR
		}
		t.event(team, certctl.AggregateCertificate, o.Certificate, name, map[string]any{
			"certificate": o.Certificate, "order": o.ID, "holder": o.Holder, "approved": true,
		})
		holders, err := t.orderHolders(ctx, []orderSpec{{Holder: o.Holder}})
		if err != nil {
			return err
		}
		if err := t.moveOn(ctx, []certctl.Order{o}, holders); err != nil {
			return err
		}
		if err := t.refreshStatus(ctx, o.Certificate); err != nil {
			return err
		}
		order, err = t.order(ctx, id)
		return err
	})
	return order, err
}
