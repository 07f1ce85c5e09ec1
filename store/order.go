package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
)

const (
	// csrReminder is how often an order that waits for its client's CSR or for a
	// person's approval comes up again, so that it is never forgotten.
	csrReminder = certctl.Day

	// agentReminder is how often the bell is rung for an order that waits for its
	// agent's CSR, should the first one have been lost.
	agentReminder = time.Minute
)

// orderSpec asks for an order.
type orderSpec struct {
	Certificate certctl.ID
	Holder      certctl.ID
	Origin      certctl.Origin
	Urgency     certctl.Urgency
	CSR         *certctl.CSR // nil: whoever holds the key will send one
	Issuer      certctl.ID   // absent: the certificate's first
	Reason      string       // why, for the event: submitted, revision, renew_at, revoked, …
	Override    string       // why it is asked for during a freeze

	handedOver bool   // CSR is what the agent handed over before
	discarded  string // why what the agent handed over was not used
}

// orderBasis is what orders of a certificate are made from.
type orderBasis struct {
	team, name string
	names      certctl.Names
	revision   int64
	issuers    []certctl.ID
	profileID  certctl.ID
	profile    certctl.Profile
	encoded    string         // the profile, as the snapshot that is stored
	request    *certctl.Actor // who asked, where several requests share the transaction
}

// orderHolder is the part of a holder that orders are made from.
type orderHolder struct {
	kind  certctl.HolderKind
	agent certctl.ID // of a shared holder: the member that makes its next key
	next  certctl.NextCSR
}

// newOrders makes live orders and returns those that it made: a holder that has
// a live one keeps it and gets no other, and a certificate without an issuer
// gets none. A certificate with an imported key gets keys of its own first, see
// adopt. Each order starts where it can: at approval if the profile wants
// one, at awaiting_csr without a CSR, else ready. Its due row, its event and the
// hint or bell that moves it on come with it.
func (t *tx) newOrders(ctx context.Context, specs []orderSpec) ([]certctl.Order, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	specs, err := t.adopt(ctx, specs)
	if err != nil {
		return nil, err
	}
	bases, err := t.orderBases(ctx, specs)
	if err != nil {
		return nil, err
	}
	holders, err := t.orderHolders(ctx, specs)
	if err != nil {
		return nil, err
	}
	if err := t.takeNextKeys(ctx, specs, bases, holders); err != nil {
		return nil, err
	}
	return t.makeOrders(ctx, specs, bases, holders)
}

// makeOrders is newOrders for a caller who knows the certificates and holders.
func (t *tx) makeOrders(ctx context.Context, specs []orderSpec, bases map[certctl.ID]*orderBasis, holders map[certctl.ID]orderHolder) ([]certctl.Order, error) {
	orders := make([]certctl.Order, 0, len(specs))
	spkis := make([][]byte, 0, len(specs))
	for _, spec := range specs {
		basis, holder := bases[spec.Certificate], holders[spec.Holder]
		if basis == nil || holder.kind == "" || (spec.Issuer.IsZero() && len(basis.issuers) == 0) {
			continue
		}
		orders = append(orders, t.orderOf(spec, basis, holder, len(orders)))
		spkis = append(spkis, spkiOf(spec.CSR))
	}
	made, err := t.insertOrders(ctx, orders, spkis, bases)
	if err != nil {
		return nil, err
	}
	asked := make(map[certctl.ID]orderSpec, len(specs))
	for _, spec := range specs {
		asked[spec.Holder] = spec
	}
	for i := range made {
		o, basis, spec := &made[i], bases[made[i].Certificate], asked[made[i].Holder]
		t.requested(basis.request)
		data := map[string]any{
			"certificate": o.Certificate, "name": basis.name, "order": o.ID, "holder": o.Holder, "revision": o.Revision,
			"issuer": o.Issuer, "origin": o.Origin, "reason": spec.Reason, "state": o.State,
		}
		if o.Override != "" {
			data["override"] = true
		}
		if spec.discarded != "" {
			data["next_key_discarded"] = spec.discarded
		}
		t.event(basis.team, certctl.AggregateCertificate, o.Certificate, certctl.EventOrderCreated, data)
		if spec.handedOver && o.State == certctl.OrderReady {
			t.event(basis.team, certctl.AggregateCertificate, o.Certificate, certctl.EventOrderReady, map[string]any{
				"certificate": o.Certificate, "name": basis.name, "order": o.ID, "holder": o.Holder, "handed_over": true,
			})
		}
		if o.Wait == certctl.WaitCSR && o.State == certctl.OrderAwaitingCSR {
			t.event(basis.team, certctl.AggregateCertificate, o.Certificate, certctl.EventOrderAwaitingCSR, map[string]any{
				"certificate": o.Certificate, "name": basis.name, "order": o.ID, "holder": o.Holder,
			})
		}
	}
	return made, t.moveOn(ctx, made, holders)
}

// orderOf makes one order; i is its place among those made together.
func (t *tx) orderOf(spec orderSpec, basis *orderBasis, holder orderHolder, i int) certctl.Order {
	o := certctl.Order{
		ID: certctl.NewID(t.now).WithOrder(i), Certificate: spec.Certificate, Holder: spec.Holder, HolderKind: holder.kind,
		Revision: basis.revision, Origin: spec.Origin, Requester: t.actor.Principal.ID, Override: certctl.Clip(spec.Override, 1000), Names: basis.names,
		Profile: basis.profile, Issuer: spec.Issuer, Urgency: spec.Urgency, CreatedAt: t.now, UpdatedAt: t.now,
	}
	if o.Issuer.IsZero() {
		o.Issuer = basis.issuers[0]
	}
	if spec.CSR != nil {
		o.CSR = spec.CSR.DER
	}
	o.State, o.Wait = startOf(basis.profile.Approval, o.CSR != nil, holder.kind)
	o.DueAt = orderDue(o, holder, t.now).at
	return o
}

// startOf returns the state in which an order begins, or goes on after approval.
func startOf(approval, csr bool, holder certctl.HolderKind) (certctl.OrderState, certctl.WaitReason) {
	switch {
	case approval:
		return certctl.OrderAwaitingApproval, certctl.WaitApproval
	case csr:
		return certctl.OrderReady, certctl.WaitNone
	case holder == certctl.HolderClient:
		return certctl.OrderAwaitingCSR, certctl.WaitCSR
	}
	return certctl.OrderAwaitingCSR, certctl.WaitHolder
}

// orderDue returns the due row of an order that is to be moved on now: who must
// look at it, and when again should this be missed. Ready orders are due at
// once; the others come up again as reminders, since what moves them on comes
// from outside. A shared key is due to be made by another member then.
func orderDue(o certctl.Order, holder orderHolder, now time.Time) dueRow {
	row := dueRow{kind: dueOrder, id: o.ID, urgency: o.Urgency}
	switch {
	case o.State == certctl.OrderAwaitingCSR && holder.kind == certctl.HolderShared:
		row.verb, row.agent, row.at = certctl.HintExpire, holder.agent, now.Add(agentReminder)
	case o.State == certctl.OrderAwaitingCSR && !holder.agent.IsZero():
		row.verb, row.agent, row.at = certctl.HintBell, holder.agent, now.Add(agentReminder)
	case o.State == certctl.OrderAwaitingCSR, o.State == certctl.OrderAwaitingApproval, o.State == certctl.OrderPending:
		row.verb, row.at = certctl.HintExpire, now.Add(csrReminder)
	default:
		row.verb, row.lane, row.at = certctl.HintIssue, o.Issuer.String(), now.Add(agentReminder)
	}
	return row
}

// moveOn sets the due rows of orders that have just entered their state, and
// asks the announcer to tell whoever can move them on.
func (t *tx) moveOn(ctx context.Context, orders []certctl.Order, holders map[certctl.ID]orderHolder) error {
	rows := make([]dueRow, len(orders))
	lanes, agents := map[string][]certctl.ID{}, map[certctl.ID]bool{}
	var shared, makers []certctl.ID
	for i, o := range orders {
		rows[i] = orderDue(o, holders[o.Holder], t.now)
		switch {
		case rows[i].verb == certctl.HintIssue:
			lanes[rows[i].lane] = append(lanes[rows[i].lane], o.ID)
		case !rows[i].agent.IsZero():
			agents[rows[i].agent] = true
		}
		if holders[o.Holder].kind == certctl.HolderShared && o.State == certctl.OrderAwaitingCSR {
			shared, makers = append(shared, o.ID), append(makers, holders[o.Holder].agent)
		}
	}
	if err := t.setMakers(ctx, shared, makers); err != nil {
		return err
	}
	for lane, ids := range lanes {
		t.hints(certctl.HintIssue, lane, ids)
	}
	t.ring(agents)
	return t.due(ctx, rows...)
}

// hints is hint for any number of ids.
func (t *tx) hints(verb certctl.HintVerb, lane string, ids []certctl.ID) {
	for len(ids) > 0 {
		n := min(len(ids), certctl.MaxHintIDs)
		t.hint(verb, lane, ids[:n]...)
		ids = ids[n:]
	}
}

// ring is bell for a set of agents.
func (t *tx) ring(agents map[certctl.ID]bool) {
	ids := make([]certctl.ID, 0, len(agents))
	for id := range agents {
		ids = append(ids, id)
	}
	t.hints(certctl.HintBell, certctl.NoLane, ids)
}

// insertOrders stores orders and returns those whose holder had no live one.
func (t *tx) insertOrders(ctx context.Context, orders []certctl.Order, spkis [][]byte, bases map[certctl.ID]*orderBasis) ([]certctl.Order, error) {
	n := len(orders)
	ids, certificates, holders, issuers := make([]certctl.ID, n), make([]certctl.ID, n), make([]certctl.ID, n), make([]certctl.ID, n)
	requesters, revisions, urgencies := make([]certctl.ID, n), make([]int64, n), make([]int16, n)
	states, waits, origins := make([]string, n), make([]string, n), make([]string, n)
	names, profiles, csrs, overrides := make([]string, n), make([]string, n), make([][]byte, n), make([]string, n)
	for i, o := range orders {
		encoded, err := json.Marshal(o.Names)
		if err != nil {
			return nil, err
		}
		ids[i], certificates[i], holders[i], issuers[i], requesters[i] = o.ID, o.Certificate, o.Holder, o.Issuer, o.Requester
		revisions[i], urgencies[i], states[i], waits[i], origins[i] = o.Revision, int16(o.Urgency), string(o.State), string(o.Wait), string(o.Origin)
		names[i], profiles[i], csrs[i], overrides[i] = string(encoded), bases[o.Certificate].encoded, o.CSR, o.Override
	}
	var made []certctl.ID
	err := t.QueryRow(ctx, `
		with made as (
			insert into cert_order (id, certificate_id, holder_id, revision, state, wait, origin, requester_id,
				names, profile, issuer_id, csr, csr_spki, urgency, override)
			select id, certificate, holder, revision, state, wait, origin, requester, names::jsonb, profile::jsonb, issuer, csr, spki, urgency, override
			from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::uuid[],
				$9::text[], $10::text[], $11::uuid[], $12::bytea[], $13::bytea[], $14::smallint[], $15::text[])
				as o(id, certificate, holder, revision, state, wait, origin, requester, names, profile, issuer, csr, spki, urgency, override)
			on conflict (certificate_id, holder_id) where live do nothing
			returning id)
		select array(select id from made)`,
		ids, certificates, holders, revisions, states, waits, origins, requesters, names, profiles, issuers, csrs, spkis, urgencies, overrides).Scan(&made)
	if err != nil || len(made) == n {
		return orders, err
	}
	kept := make(map[certctl.ID]bool, len(made))
	for _, id := range made {
		kept[id] = true
	}
	var out []certctl.Order
	for _, o := range orders {
		if kept[o.ID] {
			out = append(out, o)
		}
	}
	return out, nil
}

func spkiOf(csr *certctl.CSR) []byte {
	if csr == nil {
		return nil
	}
	return csr.SPKI[:]
}
