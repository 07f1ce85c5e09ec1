package store

import (
	"context"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// issuerLimits reads what issuers say about leaves with the same names.
func (t *tx) issuerLimits(ctx context.Context, ids []certctl.ID) (map[certctl.ID]certctl.Issuer, error) {
	limits := make(map[certctl.ID]certctl.Issuer, len(ids))
	if len(ids) == 0 {
		return limits, nil
	}
	rows, err := t.Query(ctx, `select id, name, duplicates_count, duplicates_period, priced from issuer where id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	var i certctl.Issuer
	_, err = pgx.ForEachRow(rows, []any{&i.ID, &i.Name, &i.Duplicates.Count, (*int64)(&i.Duplicates.Per), &i.Priced}, func() error {
		limits[i.ID] = i
		return nil
	})
	return limits, err
}

// limitsOf are the limits of issuers in their order.
func (t *tx) limitsOf(ctx context.Context, issuers []certctl.ID) ([]certctl.Issuer, error) {
	limits, err := t.issuerLimits(ctx, issuers)
	out := make([]certctl.Issuer, 0, len(issuers))
	for _, id := range issuers {
		out = append(out, limits[id])
	}
	return out, err
}

// planSharing settles whether the agents of a submission share a key. The one key
// of an import is everybody's until the agents make their own.
func planSharing(sub *submission, g *gathered, bad *certctl.FieldErrors) {
	if sub.KeyMode != certctl.KeyModeAgent {
		if sub.Sharing != "" && sub.Sharing != certctl.SharingPerAgent && sub.Sharing != certctl.SharingShared {
			bad.Add("/sharing", "must be per_agent or shared")
		}
		return
	}
	agents := map[certctl.ID]bool{}
	for _, b := range sub.bindings {
		agents[b.target.agent] = true
	}
	issuers := make([]certctl.Issuer, len(sub.issuers))
	for i, issuer := range sub.issuers {
		issuers[i] = g.limits[issuer.id]
	}
	sub.sharingChosen = sub.Sharing != ""
	sharing, err := certctl.ChooseSharing(sub.Sharing, len(agents), issuers)
	bad.AddError("", err)
	sub.Sharing = sharing
}

// agentsOf are the agents that a certificate is bound on, and others besides.
func (h *held) agentsOf(others ...certctl.ID) []certctl.ID {
	agents := slices.Clone(others)
	for _, b := range h.bindings {
		if !slices.Contains(agents, b.agent) {
			agents = append(agents, b.agent)
		}
	}
	return agents
}

// checkSharing refuses one more agent with a key of its own where an issuer gives
// fewer leaves.
func (t *tx) checkSharing(ctx context.Context, h *held, agent certctl.ID) error {
	if h.keyMode != certctl.KeyModeAgent || h.sharing == certctl.SharingShared || !h.sharingChosen {
		return nil // see chooseAgain
	}
	issuers, err := t.limitsOf(ctx, h.issuers)
	if err != nil {
		return err
	}
	_, err = certctl.ChooseSharing(certctl.SharingPerAgent, len(h.agentsOf(agent)), issuers)
	return err
}

// patchedSharing is the part of patched that follows from all others.
func (t *tx) patchedSharing(ctx context.Context, h *held, patch certctl.CertificatePatch, changed []string) ([]string, error) {
	if patch.Sharing == nil && !slices.Contains(changed, changedIssuers) {
		return changed, nil
	}
	differs, err := t.patchSharing(ctx, h, patch.Sharing)
	if differs {
		changed = append(changed, changedSharing)
	}
	return changed, err
}

// patchSharing applies a change of the sharing, or one of the issuers that it has
// to fit, and reports whether it differs then.
func (t *tx) patchSharing(ctx context.Context, h *held, wanted *certctl.Sharing) (bool, error) {
	if h.keyMode != certctl.KeyModeAgent {
		if wanted != nil && *wanted != h.sharing {
			return false, certctl.InvalidField("/sharing", "only keys that agents make can be shared, and those of %s are not", h.name)
		}
		return false, nil
	}
	sharing, chosen := h.sharing, h.sharingChosen
	switch {
	case wanted != nil:
		h.sharingChosen = *wanted != ""
	case h.sharingChosen || h.sharing == certctl.SharingShared:
		wanted = &sharing
	default:
		wanted = new(certctl.Sharing)
	}
	issuers, err := t.limitsOf(ctx, h.issuers)
	if err != nil {
		return false, err
	}
	h.sharing, err = certctl.ChooseSharing(*wanted, len(h.agentsOf()), issuers)
	return h.sharing != sharing || h.sharingChosen != chosen, err
}

// chooseAgain has the agents of a held certificate share a key, if nobody has said
// otherwise, when one more comes and an issuer asks for it. Nothing goes back by
// itself when agents leave.
func (t *tx) chooseAgain(ctx context.Context, h *held, agent certctl.ID) error {
	if h.keyMode != certctl.KeyModeAgent || h.sharing == certctl.SharingShared || h.sharingChosen {
		return nil
	}
	issuers, err := t.limitsOf(ctx, h.issuers)
	if err != nil {
		return err
	}
	sharing, err := certctl.ChooseSharing("", len(h.agentsOf(agent)), issuers)
	if err != nil || sharing != certctl.SharingShared {
		return err
	}
	if err := t.put(ctx, `update certificate set sharing = $2, updated_at = now() where id = $1`, h.id, string(sharing)); err != nil {
		return err
	}
	h.sharing = sharing
	t.event(h.team, certctl.AggregateCertificate, h.id, certctl.EventCertificateUpdated, map[string]any{
		"certificate": h.id, "name": h.name, "revision": h.revision, "changed": []string{changedSharing},
	})
	return t.reshare(ctx, h)
}

// reshare gives a held certificate, whose sharing has changed, other holders with
// keys of their own: what is served stays until their leaves have come.
func (t *tx) reshare(ctx context.Context, h *held) error {
	ended := make([]certctl.ID, len(h.holders))
	bindings := make([]certctl.ID, len(h.bindings))
	for i, holder := range h.holders {
		ended[i] = holder.id
	}
	for i, b := range h.bindings {
		bindings[i] = b.id
	}
	if err := t.endDeployments(ctx, bindings...); err != nil {
		return err
	}
	if err := t.endHolders(ctx, h, ended); err != nil {
		return err
	}
	h.holders = nil
	var specs []orderSpec
	for i := range h.bindings {
		b := &h.bindings[i]
		holder, err := t.holderFor(ctx, h, b.agent)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(h.holders, func(x heldHolder) bool { return x.id == holder.id }) {
			h.holders = append(h.holders, holder)
		}
		if !slices.ContainsFunc(specs, func(s orderSpec) bool { return s.Holder == holder.id }) {
			specs = append(specs, orderSpec{Certificate: h.id, Holder: holder.id, Origin: certctl.OriginAPI, Urgency: certctl.UrgencyNow, Reason: "sharing"})
		}
		b.holder = holder.id
		if err := t.put(ctx, `update binding set holder_id = $2 where id = $1`, b.id, holder.id); err != nil {
			return err
		}
	}
	_, err := t.newOrders(ctx, specs)
	return err
}

// endMembers ends the memberships of holders that have ended.
func (t *tx) endMembers(ctx context.Context, holders []certctl.ID) error {
	if err := t.put(ctx, `update holder_member set left_at = now() where holder_id = any($1) and left_at is null`, holders); err != nil {
		return err
	}
	if err := t.put(ctx, `delete from member_key where holder_id = any($1)`, holders); err != nil {
		return err
	}
	if err := t.put(ctx, `update holder set rekey_at = now() where id = any($1) and kind = 'shared'`, holders); err != nil {
		return err
	}
	return t.done(ctx, dueShare, holders...)
}

// adoptShared has the agents of an import's targets share the next key, if that is
// wanted or its issuer asks for it: they take the import's holder over, with its
// history.
func (t *tx) adoptShared(ctx context.Context, h *held, spec orderSpec) (bool, error) {
	var team string
	if err := t.QueryRow(ctx, `
		select c.sharing, c.issuers, c.name, team.name from certificate c join team on team.id = c.team_id where c.id = $1`,
		spec.Certificate).Scan(&h.sharing, &h.issuers, &h.name, &team); err != nil {
		return false, err
	}
	agents := h.agentsOf()
	issuers, err := t.limitsOf(ctx, h.issuers)
	if err != nil {
		return false, err
	}
	sharing, err := certctl.ChooseSharing(h.sharing, len(agents), issuers)
	if certctl.ErrorCode(err) == certctl.Invalid {
		sharing, err = certctl.SharingShared, nil // a renewal cannot be refused: it is asked for by the clock
	}
	if err != nil || sharing != certctl.SharingShared || len(agents) == 0 {
		return false, err
	}
	if err := t.put(ctx, `update holder set kind = 'shared', agent_id = null where id = $1`, spec.Holder); err != nil {
		return false, err
	}
	if err := t.join(ctx, slices.Repeat([]certctl.ID{spec.Holder}, len(agents)), agents); err != nil {
		return false, err
	}
	_, err = t.Exec(ctx, `update certificate set key_mode = 'agent', sharing = 'shared', updated_at = now() where id = $1`, spec.Certificate)
	t.event(team, certctl.AggregateCertificate, spec.Certificate, certctl.EventCertificateUpdated, map[string]any{
		"certificate": spec.Certificate, "changed": []string{"key_mode", "sharing"}, "key_mode": certctl.KeyModeAgent,
	})
	return true, err
}

// sharedAsIs reports whether the holders are already those of the sharing.
func (h *held) sharedAsIs() bool {
	kind := certctl.HolderAgent
	if h.sharing == certctl.SharingShared {
		kind = certctl.HolderShared
	}
	return !slices.ContainsFunc(h.holders, func(x heldHolder) bool { return x.kind != kind })
}
