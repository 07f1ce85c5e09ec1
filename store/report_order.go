package store

import (
	"bytes"
	"context"
	"slices"

	"github.com/certctl/certctl"
)

// takeCSR judges the request that an agent made for an order of its own.
func (b *reportBatch) takeCSR(s certctl.Statement, csr *certctl.CSR) error {
	o := b.orders[s.Object]
	if o != nil && o.agent != s.Agent && slices.Contains(o.members, s.Agent) {
		return over("order") // another member was asked since
	}
	if o == nil || o.agent != s.Agent {
		return notYours("order")
	}
	switch {
	case bytes.Equal(o.csr, csr.DER):
		return nil
	case o.state != certctl.OrderAwaitingCSR:
		return over("order")
	case csr.Names.Len() > 0 && !csr.Names.Equal(o.names):
		return certctl.Errorf(certctl.Denied, "the request names %v, asked for was %v", csr.Names.Strings(), o.names.Strings())
	}
	if err := o.profile.CheckKey(csr.Algorithm); err != nil {
		return certctl.Errorf(certctl.Denied, "%s", certctl.ErrorMessage(err))
	}
	if reason, blocked := b.blocked[csr.SPKI]; blocked {
		return certctl.Errorf(certctl.Conflict, "%s", blockedKey(reason))
	}
	o.accepted, o.refusal = csr, nil
	o.csr, o.state = csr.DER, certctl.OrderReady
	b.changed[o.certificate] = true
	return nil
}

// refuseKey lets an order wait whose agent will not, or cannot, make the key.
func (b *reportBatch) refuseKey(s certctl.Statement, refusal *certctl.Refusal) error {
	o := b.orders[s.Object]
	switch {
	case o.agent != s.Agent && slices.Contains(o.members, s.Agent):
		return over("order")
	case o.agent != s.Agent:
		return notYours("order")
	case o.state == certctl.OrderAwaitingCSR && o.number == 0 && o.wait == certctl.WaitBackoff:
		return nil // recorded before
	case o.state != certctl.OrderAwaitingCSR || o.number != s.Number:
		return over("order")
	}
	o.refusal, o.number, o.wait = refusal, 0, certctl.WaitBackoff
	b.changed[o.certificate] = true
	return nil
}

// writeOrders stores requests and refusals.
func (b *reportBatch) writeOrders(ctx context.Context) error {
	var ready []certctl.Order
	var ids, refused []certctl.ID
	var csrs, spkis [][]byte
	var codes, messages []string
	for _, id := range sortedIDs(b.orders) {
		o := b.orders[id]
		data := map[string]any{"certificate": o.certificate, "name": o.name, "order": o.id, "holder": o.holder}
		switch {
		case o.accepted != nil:
			ready = append(ready, certctl.Order{ID: o.id, Certificate: o.certificate, Holder: o.holder, State: certctl.OrderReady,
				Issuer: o.issuer, Urgency: o.urgency})
			ids, csrs, spkis = append(ids, o.id), append(csrs, o.accepted.DER), append(spkis, o.accepted.SPKI[:])
			b.event(o.team, certctl.AggregateCertificate, o.certificate, certctl.EventOrderReady, data)
		case o.refusal != nil:
			refused, codes = append(refused, o.id), append(codes, certctl.Clip(o.refusal.Code, 100))
			messages = append(messages, certctl.Clip(o.refusal.Message, 1000))
			again := dueRow{kind: dueOrder, id: o.id, verb: certctl.HintBell, agent: o.agent, urgency: o.urgency, at: b.refusedUntil(o.refusal.Code)}
			if len(o.members) > 0 {
				again.verb = certctl.HintExpire
			}
			b.due = append(b.due, again)
			data["code"], data["retry_at"] = codes[len(codes)-1], b.refusedUntil(o.refusal.Code)
			b.eventOutcome(o.team, certctl.AggregateCertificate, o.certificate, certctl.EventOrderDelayed, certctl.OutcomeFailure, data)
		}
	}
	if len(refused) > 0 {
		if _, err := b.Exec(ctx, `
			update cert_order o set wait = 'backoff', number = 0, error_code = new.code, message = new.message, updated_at = now()
			from unnest($1::uuid[], $2::text[], $3::text[]) as new(id, code, message) where o.id = new.id`, refused, codes, messages); err != nil {
			return err
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if _, err := b.Exec(ctx, `
		update cert_order o set state = 'ready', wait = '', error_code = '', message = '', csr = new.csr, csr_spki = new.spki, updated_at = now()
		from unnest($1::uuid[], $2::bytea[], $3::bytea[]) as new(id, csr, spki) where o.id = new.id`, ids, csrs, spkis); err != nil {
		return err
	}
	return b.moveOn(ctx, ready, nil)
}
