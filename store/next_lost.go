package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// lostKey is a key that a node had handed over and has no more.
type lostKey struct {
	holder, certificate certctl.ID
	spki                certctl.Digest
}

// orderLost orders for holders whose node has lost the key that it had handed
// over: this time the node is asked for one. An open order for that key goes
// back to where it waits for another; one that is at the CA is left to end, and
// its leaf meets the same receipt.
func (b *reportBatch) orderLost(ctx context.Context, deployments []certctl.ID) error {
	lost, err := b.lostKeys(ctx, deployments)
	if err != nil || len(lost) == 0 {
		return err
	}
	var holders, certificates []certctl.ID
	var specs []orderSpec
	for _, l := range lost {
		holders, certificates = append(holders, l.holder), append(certificates, l.certificate)
		specs = append(specs, orderSpec{Certificate: l.certificate, Holder: l.holder, Origin: certctl.OriginSweep,
			Urgency: certctl.UrgencyNow, Reason: keyMissing})
	}
	if err := b.forgetNextKeys(ctx, holders...); err != nil {
		return err
	}
	live, err := b.liveOrders(ctx, certificates...)
	if err != nil {
		return err
	}
	for _, o := range live {
		for _, l := range lost {
			if o.holder == l.holder && requestFor(o.csr, l.spki) {
				if err := b.takeBackCSR(ctx, o); err != nil {
					return err
				}
			}
		}
	}
	_, err = b.newOrders(ctx, specs)
	return err
}

// lostKeys returns the holders of deployments of their newest versions, unless
// an order of theirs is at its CA.
func (t *tx) lostKeys(ctx context.Context, deployments []certctl.ID) ([]lostKey, error) {
	if len(deployments) == 0 {
		return nil, nil
	}
	rows, err := t.Query(ctx, `
		select distinct h.id, h.certificate_id, v.spki
		from deployment d join version v on v.id = d.version_id join binding b on b.id = d.binding_id join holder h on h.id = b.holder_id
		where d.id = any($1) and h.version_id = v.id and h.ended_at is null and b.unbound_at is null
			and not exists (select from cert_order where certificate_id = h.certificate_id and holder_id = h.id and state = 'processing')
		order by h.id`, deployments)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l lostKey, err error) {
		return l, row.Scan(&l.holder, &l.certificate, &l.spki)
	})
}

// takeBackCSR takes the request out of an order that nobody works on, so that
// the holder is asked for another one.
func (t *tx) takeBackCSR(ctx context.Context, o liveOrder) error {
	holders, err := t.orderHolders(ctx, []orderSpec{{Holder: o.holder}})
	if err != nil {
		return err
	}
	next := certctl.Order{ID: o.id, Certificate: o.certificate, Holder: o.holder, State: o.state, Issuer: o.issuer, Urgency: o.urgency}
	wait := o.wait
	if next.State == certctl.OrderReady {
		next.State, wait = startOf(false, false, holders[o.holder].kind)
	}
	if err := t.put(ctx, `
		update cert_order set state = $2, wait = $3, csr = null, csr_spki = null, number = 0, updated_at = now()
		where id = $1 and state in ('ready', 'awaiting_approval')`, o.id, string(next.State), string(wait)); err != nil {
		return err
	}
	return t.moveOn(ctx, []certctl.Order{next}, holders)
}

// requestFor reports whether a request is for a key.
func requestFor(der []byte, spki certctl.Digest) bool {
	csr, err := certctl.RecordedCSR(der)
	return err == nil && csr.SPKI == spki
}
