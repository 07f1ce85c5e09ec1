package store

import (
	"context"
	"maps"

	"github.com/certctl/certctl"
)

// submitTries bounds how often a submission is begun anew because somebody else
// took one of its places on a target meanwhile; the next try sees him.
const submitTries = 3

// SubmitCertificate records what should exist, with its holders, bindings and
// first orders. A repeated request with the same idempotency key gets the
// certificate that the first one made.
func (s *Store) SubmitCertificate(ctx context.Context, actor certctl.Actor, request certctl.CertificateRequest, idem certctl.Idempotency) (certctl.Submitted, error) {
	if idem.Key == "" {
		call := &submitCall{actor: actor, request: request}
		s.submits.do(ctx, call, ofOnePrincipal, s.submitGathered)
		return call.made, call.err
	}
	var made certctl.Submitted
	err := s.submitting(ctx, actor, func(t *tx) error {
		sub := &submission{CertificateRequest: request, id: certctl.NewID(t.now)}
		earlier, err := t.once(ctx, idem, sub.id)
		if err != nil {
			return err
		}
		if !earlier.id.IsZero() {
			made = certctl.Submitted{Earlier: true}
			made.Certificate, err = t.certificate(ctx, earlier.id)
			return err
		}
		if err := t.submit(ctx, []*submission{sub}); err != nil {
			return err
		}
		made = sub.submitted(t.now)
		return sub.err
	})
	if err != nil {
		return certctl.Submitted{}, err
	}
	return made, nil
}

// SubmitCertificates records many submissions in one transaction. One that
// cannot be met fails alone; an error means that none was recorded.
func (s *Store) SubmitCertificates(ctx context.Context, actor certctl.Actor, requests []certctl.CertificateRequest) ([]certctl.SubmitResult, error) {
	results := make([]certctl.SubmitResult, len(requests))
	err := s.submitting(ctx, actor, func(t *tx) error {
		subs := make([]*submission, len(requests))
		for i, request := range requests {
			subs[i] = &submission{CertificateRequest: request, id: certctl.NewID(t.now).WithOrder(i)}
		}
		if err := t.submit(ctx, subs); err != nil {
			return err
		}
		for i, sub := range subs {
			results[i] = certctl.SubmitResult{Err: sub.err}
			if sub.err == nil {
				results[i].Certificate = sub.result(t.now)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// submitting is write for what binds targets: see submitTries.
func (s *Store) submitting(ctx context.Context, actor certctl.Actor, change func(*tx) error) (err error) {
	for range submitTries {
		if err = s.write(ctx, actor, change); !conflictOn(err, "binding_place") {
			return err
		}
	}
	return err
}

// submit records submissions with a number of statements that does not depend
// on theirs. Those that fail have their err set and leave nothing behind.
func (t *tx) submit(ctx context.Context, subs []*submission) error {
	if err := t.planSubmissions(ctx, subs); err != nil {
		return err
	}
	if err := t.checkPlaces(ctx, subs); err != nil {
		return err
	}
	if err := t.insertCertificates(ctx, subs); err != nil {
		return err
	}
	subs = sound(subs)
	if err := t.insertHolders(ctx, subs); err != nil {
		return err
	}
	if err := t.insertBindings(ctx, subs); err != nil {
		return err
	}
	for _, sub := range subs {
		t.requested(sub.request)
		t.event(sub.team, certctl.AggregateCertificate, sub.id, certctl.EventCertificateCreated, sub.eventData())
	}
	return t.orderSubmissions(ctx, subs)
}

// requested has what follows noted as of a request, of several that one principal
// has made; nil: there is one only.
func (t *tx) requested(request *certctl.Actor) {
	if request != nil {
		t.actor.RequestID, t.actor.Trace = request.RequestID, request.Trace
	}
}

// orderSubmissions makes the first orders.
func (t *tx) orderSubmissions(ctx context.Context, subs []*submission) error {
	var specs, shared []orderSpec
	bases, holders := make(map[certctl.ID]*orderBasis, len(subs)), make(map[certctl.ID]orderHolder, len(subs))
	for _, sub := range subs {
		if len(sub.issuers) == 0 || sub.imported {
			continue
		}
		bases[sub.id] = &orderBasis{team: sub.team, name: sub.Name, names: sub.Names, revision: 1, issuers: sub.issuerIDs(),
			profile: sub.profile.Profile, encoded: sub.profile.encoded, request: sub.request}
		for _, h := range sub.holders {
			holders[h.id] = orderHolder{kind: h.kind, agent: h.agent}
			if h.kind == certctl.HolderShared {
				shared = append(shared, orderSpec{Holder: h.id})
			}
			specs = append(specs, orderSpec{Certificate: sub.id, Holder: h.id, Origin: sub.Origin, Urgency: sub.urgency(),
				CSR: sub.CSR, Reason: "submitted"})
		}
	}
	if len(shared) > 0 {
		makers, err := t.orderHolders(ctx, shared)
		if err != nil {
			return err
		}
		maps.Copy(holders, makers)
	}
	made, err := t.makeOrders(ctx, specs, bases, holders)
	if err != nil {
		return err
	}
	byCertificate := make(map[certctl.ID]*submission, len(subs))
	for _, sub := range subs {
		byCertificate[sub.id] = sub
	}
	for _, o := range made {
		sub := byCertificate[o.Certificate]
		sub.orders = append(sub.orders, o)
	}
	return nil
}

// sound returns the submissions that have not failed.
func sound(subs []*submission) []*submission {
	out := make([]*submission, 0, len(subs))
	for _, sub := range subs {
		if sub.err == nil {
			out = append(out, sub)
		}
	}
	return out
}
