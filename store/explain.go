package store

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
)

// ExplainCertificate says why a certificate is or is not renewed now. It decides
// with the same function as the sweep.
func (s *Store) ExplainCertificate(ctx context.Context, actor certctl.Actor, ref string) (certctl.Explanation, error) {
	var e certctl.Explanation
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		e.At = t.now
		if e.Certificate, err = t.certificate(ctx, f.id); err != nil {
			return err
		}
		if len(e.Certificate.Issuers) > 0 {
			if e.Issuer, err = t.issuer(ctx, e.Certificate.Issuers[0].ID); err != nil {
				return err
			}
		}
		freezes, err := t.freezes(ctx)
		if err != nil {
			return err
		}
		e.Freezes = slices.DeleteFunc(freezes, func(f certctl.Freeze) bool { return !f.Covers(e.Certificate.Labels, t.now) })
		return t.explainHolders(ctx, &e)
	})
	return e, err
}

func (t *tx) explainHolders(ctx context.Context, e *certctl.Explanation) error {
	holders, err := t.liveHolders(ctx, e.Certificate.ID)
	if err != nil {
		return err
	}
	ids, versions := make([]certctl.ID, len(holders)), map[certctl.ID]bool{}
	for i, h := range holders {
		ids[i], versions[h.Version] = h.ID, true
	}
	delete(versions, certctl.NoID)
	swept, err := t.sweptHolders(ctx, ids)
	if err != nil {
		return err
	}
	newest, err := t.versions(ctx, keysOf(versions))
	if err != nil {
		return err
	}
	var open []certctl.ID
	if err := t.QueryRow(ctx, `select array(select id from cert_order where certificate_id = $1 and live order by id)`,
		e.Certificate.ID).Scan(&open); err != nil {
		return err
	}
	orders, err := t.orders(ctx, open)
	if err != nil {
		return err
	}
	advice, err := t.advice(ctx, keysOf(versions))
	for _, h := range holders {
		x := certctl.HolderExplanation{Holder: h}
		if i := slices.IndexFunc(swept, func(s sweptHolder) bool { return s.id == h.ID }); i >= 0 {
			x.Facts = swept[i].facts
			x.Decision = certctl.HolderDue(x.Facts, t.now)
		}
		if i := slices.IndexFunc(newest, func(v certctl.Version) bool { return v.ID == h.Version }); i >= 0 {
			x.Version, x.Advice = newest[i], advice[newest[i].ID]
		}
		if i := slices.IndexFunc(orders, func(o certctl.Order) bool { return o.Holder == h.ID }); i >= 0 {
			x.Order = orders[i]
		}
		e.Holders = append(e.Holders, x)
	}
	return err
}

// PreviewRenewal says what RenewCertificate would do, and refuses what it would
// refuse.
func (s *Store) PreviewRenewal(ctx context.Context, actor certctl.Actor, ref string, request certctl.RenewRequest) ([]certctl.RenewalPreview, error) {
	var previews []certctl.RenewalPreview
	err := s.write(ctx, actor, func(t *tx) error { // for the locks; nothing is written
		previews = nil
		h, err := t.hold(ctx, certctl.VerbIssue, ref)
		if err != nil {
			return err
		}
		if err := t.mayRenew(ctx, h, request); err != nil {
			return err
		}
		holders, err := h.renewed(request.Holder)
		if err != nil {
			return err
		}
		previews, err = t.preview(ctx, h, holders)
		return err
	})
	return previews, err
}

func (t *tx) preview(ctx context.Context, h *held, holders []heldHolder) ([]certctl.RenewalPreview, error) {
	certificate, err := t.certificate(ctx, h.id)
	if err != nil {
		return nil, err
	}
	profiles, err := t.profilesByID(ctx, []certctl.ID{h.profile})
	if err != nil {
		return nil, err
	}
	named, err := t.liveHolders(ctx, h.id)
	if err != nil {
		return nil, err
	}
	live, err := t.liveOrders(ctx, h.id)
	if err != nil {
		return nil, err
	}
	var previews []certctl.RenewalPreview
	for _, holder := range holders {
		p := certctl.RenewalPreview{
			Action: certctl.PreviewOrder, Issuer: certificate.Issuers[0],
			NotAfter: t.now.Add(time.Duration(profiles[h.profile].Validity)).UTC().Truncate(time.Second),
		}
		if i := slices.IndexFunc(named, func(n certctl.Holder) bool { return n.ID == holder.id }); i >= 0 {
			p.Holder = named[i]
		}
		if i := slices.IndexFunc(live, func(o liveOrder) bool { return o.holder == holder.id }); i >= 0 {
			p.Action, p.Order = certctl.PreviewHurry, live[i].id
			if live[i].state == certctl.OrderProcessing {
				p.Action = certctl.PreviewLeave
			}
		}
		for _, b := range h.bindings {
			if b.holder == holder.id {
				p.Targets = append(p.Targets, b.targetName)
			}
		}
		previews = append(previews, p)
	}
	return previews, nil
}
