package store

import (
	"bytes"
	"context"
	"slices"

	"github.com/certctl/certctl"
)

// SubmitCSR gives a certificate whose client holds the key the request for its
// next leaf: the order that waits for it goes on, or a new one begins. The same
// request again gets the same order while that is open.
func (s *Store) SubmitCSR(ctx context.Context, actor certctl.Actor, ref string, csr *certctl.CSR) (certctl.Order, error) {
	var order certctl.Order
	err := s.write(ctx, actor, func(t *tx) error {
		h, err := t.hold(ctx, certctl.VerbIssue, ref)
		if err != nil {
			return err
		}
		if err := t.checkCSR(ctx, h, csr); err != nil {
			return err
		}
		live, err := t.liveOrders(ctx, h.id)
		if err != nil {
			return err
		}
		var id certctl.ID
		if i := slices.IndexFunc(live, func(o liveOrder) bool { return o.holder == h.holders[0].id }); i >= 0 {
			id, err = live[i].id, t.giveCSR(ctx, h, live[i], csr)
		} else {
			var made []certctl.Order
			made, err = t.newOrders(ctx, []orderSpec{{Certificate: h.id, Holder: h.holders[0].id, Origin: certctl.OriginAPI,
				Urgency: certctl.UrgencyNow, CSR: csr, Reason: "requested"}})
			if err == nil {
				id = made[0].ID // the certificate is locked: nobody else has made one
			}
		}
		if err != nil {
			return err
		}
		if err := t.refreshStatus(ctx, h.id); err != nil {
			return err
		}
		order, err = t.order(ctx, id)
		return err
	})
	return order, err
}

// checkCSR refuses a request that could not be issued.
func (t *tx) checkCSR(ctx context.Context, h *held, csr *certctl.CSR) error {
	switch {
	case h.keyMode == certctl.KeyModeAgent:
		return certctl.Errorf(certctl.Conflict, "the nodes make the keys of %s and the requests for them", h.name)
	case h.keyMode == certctl.KeyModeImported && len(h.bindings) > 0:
		return certctl.Errorf(certctl.Conflict, "%s is installed on targets, whose agents make its next keys", h.name)
	case h.monitored():
		return certctl.Errorf(certctl.Conflict, "%s has no issuer: it is only watched", h.name).WithRemedy("give it an issuer")
	}
	profile, err := t.profile(ctx, h.profile)
	if err != nil {
		return err
	}
	blocked, err := t.blockedKeys(ctx, []certctl.Digest{csr.SPKI})
	if err != nil {
		return err
	}
	var bad certctl.FieldErrors
	if csr.Names.Len() > 0 && !csr.Names.Equal(h.names) {
		bad.Add("/csr", "it names %v, but the certificate is for %v", csr.Names.Strings(), h.names.Strings())
	}
	bad.AddError("/csr", profile.CheckKey(csr.Algorithm))
	if reason, ok := blocked[csr.SPKI]; ok {
		bad.Add("/csr", "%s", blockedKey(reason))
	}
	return bad.Err()
}

// giveCSR moves an open order of the client on.
func (t *tx) giveCSR(ctx context.Context, h *held, o liveOrder, csr *certctl.CSR) error {
	if bytes.Equal(o.csr, csr.DER) {
		return nil
	}
	if o.state != certctl.OrderAwaitingCSR && (o.state != certctl.OrderAwaitingApproval || o.csr != nil) {
		return certctl.Errorf(certctl.Conflict, "the open order %s of %s has its request already", o.id, h.name).
			WithRemedy("wait until it has ended, or cancel it")
	}
	next := certctl.Order{ID: o.id, Certificate: h.id, Holder: o.holder, State: certctl.OrderReady, Issuer: o.issuer, Urgency: certctl.UrgencyNow}
	wait := certctl.WaitNone
	if o.state == certctl.OrderAwaitingApproval {
		next.State, wait = o.state, o.wait
	}
	if err := t.put(ctx, `
		update cert_order set state = $2, wait = $3, urgency = $4, csr = $5, csr_spki = $6, updated_at = now() where id = $1`,
		o.id, string(next.State), string(wait), int16(next.Urgency), csr.DER, csr.SPKI); err != nil {
		return err
	}
	if next.State == certctl.OrderReady {
		t.event(h.team, certctl.AggregateCertificate, h.id, certctl.EventOrderReady, map[string]any{
			"certificate": h.id, "name": h.name, "order": o.id, "holder": o.holder,
		})
	}
	return t.moveOn(ctx, []certctl.Order{next}, nil)
}
