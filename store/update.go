package store

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// UpdateCertificate changes a certificate. What a leaf contains raises the
// revision: open orders that are not at the CA yet are cancelled and made anew.
func (s *Store) UpdateCertificate(ctx context.Context, actor certctl.Actor, ref string, patch certctl.CertificatePatch) (certctl.Certificate, error) {
	var certificate certctl.Certificate
	err := s.write(ctx, actor, func(t *tx) error {
		h, err := t.hold(ctx, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		if patch.IfRevision != 0 && patch.IfRevision != h.revision {
			return certctl.Wrap(certctl.Conflict, certctl.ErrChanged, "%s has revision %d, not %d", h.name, h.revision, patch.IfRevision).
				WithRemedy("read it again and repeat the change on what it is now")
		}
		changed, err := t.patched(ctx, h, patch)
		if err != nil {
			return err
		}
		if len(changed) > 0 {
			if err := t.storePatch(ctx, h, changed); err != nil {
				return err
			}
		}
		certificate, err = t.certificate(ctx, h.id)
		return err
	})
	return certificate, err
}

// Fields that a patch changes, as the event names them.
const (
	changedNames   = "names"
	changedIssuers = "issuers"
	changedProfile = "profile"
	changedPolicy  = "renewal_policy"
	changedOwner   = "owner"
	changedLabels  = "labels"
	changedSharing = "sharing"
)

// patched checks a patch, applies it to the held certificate and returns what it
// changes.
func (t *tx) patched(ctx context.Context, h *held, patch certctl.CertificatePatch) (changed []string, err error) {
	var bad certctl.FieldErrors
	note := func(field string, differs bool) {
		if differs {
			changed = append(changed, field)
		}
	}
	if patch.Names != nil {
		names, err := patch.Names.Normalize()
		bad.AddError("", err)
		note(changedNames, !names.Equal(h.names))
		h.names = names
	}
	if patch.Issuers != nil {
		issuers, err := t.patchIssuers(ctx, h, *patch.Issuers, &bad)
		if err != nil {
			return nil, err
		}
		note(changedIssuers, !slices.Equal(issuers, h.issuers))
		h.issuers = issuers
	}
	for _, ref := range []struct {
		to            *certctl.ID
		given         *string
		otherwise     string
		kind          certctl.ObjectKind
		field, change string
	}{
		{&h.profile, patch.Profile, defaultProfile, certctl.ObjectProfile, "/profile", changedProfile},
		{&h.policy, patch.RenewalPolicy, defaultPolicy, certctl.ObjectRenewalPolicy, "/renewal_policy", changedPolicy},
	} {
		if ref.given == nil {
			continue
		}
		f, err := t.refer(ctx, certctl.VerbRead, ref.kind, h.team, ref.field, orElse(*ref.given, ref.otherwise))
		if err != nil && certctl.ErrorCode(err) != certctl.Invalid {
			return nil, err
		}
		bad.AddError("", err)
		note(ref.change, f.id != *ref.to)
		*ref.to = f.id
	}
	if patch.Owner != nil {
		note(changedOwner, *patch.Owner != h.owner)
		h.owner = *patch.Owner
	}
	if patch.Labels != nil {
		bad.AddError("", certctl.CheckLabels(*patch.Labels))
		note(changedLabels, !sameLabels(*patch.Labels, h.labels))
		h.labels = *patch.Labels
	}
	if err := bad.Err(); err != nil {
		return nil, err
	}
	if err := t.allowed(ctx, h, changed); err != nil {
		return nil, err
	}
	return t.patchedSharing(ctx, h, patch, changed)
}

func (t *tx) patchIssuers(ctx context.Context, h *held, refs []string, bad *certctl.FieldErrors) ([]certctl.ID, error) {
	ids := []certctl.ID{}
	for i, ref := range refs {
		field := "/issuers/" + strconv.Itoa(i)
		f, err := t.refer(ctx, certctl.VerbRead, certctl.ObjectIssuer, h.team, field, ref)
		if err != nil && certctl.ErrorCode(err) != certctl.Invalid {
			return nil, err
		}
		bad.AddError("", err)
		if slices.Contains(ids, f.id) {
			bad.Add(field, "is given twice")
		}
		ids = append(ids, f.id)
	}
	return ids, nil
}

func sameLabels(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for key, value := range a {
		if other, ok := b[key]; !ok || other != value {
			return false
		}
	}
	return true
}

// allowed checks the changed certificate as a whole: the actor may have it so,
// and the profile allows its names.
func (t *tx) allowed(ctx context.Context, h *held, changed []string) error {
	if err := t.may(certctl.VerbUpdate, certctl.ObjectCertificate, h.found); err != nil {
		return err
	}
	if h.monitored() || !raises(changed) {
		return nil
	}
	profile, err := t.profile(ctx, h.profile)
	if err != nil {
		return err
	}
	return profile.CheckNames(h.names)
}

// raises reports whether changes are of what a leaf contains.
func raises(changed []string) bool {
	return slices.ContainsFunc(changed, func(field string) bool {
		return field == changedNames || field == changedIssuers || field == changedProfile
	})
}

// storePatch stores what patched has changed, and what follows from it.
func (t *tx) storePatch(ctx context.Context, h *held, changed []string) error {
	raised := raises(changed)
	if raised {
		h.revision++
	}
	if h.labels == nil {
		h.labels = map[string]string{}
	}
	if err := t.put(ctx, `
		update certificate set dns = $2, ips = $3, uris = $4, emails = $5, issuers = $6, profile_id = $7, policy_id = $8,
			owner = $9, labels = $10, revision = $11, sharing = $12, sharing_chosen = $13, updated_at = now() where id = $1`,
		h.id, some(h.names.DNS), some(h.names.IP), some(h.names.URI), some(h.names.Email), some(h.issuers), h.profile, h.policy,
		h.owner, h.labels, h.revision, string(h.sharing), h.sharingChosen); err != nil {
		return err
	}
	t.event(h.team, certctl.AggregateCertificate, h.id, certctl.EventCertificateUpdated, map[string]any{
		"certificate": h.id, "name": h.name, "revision": h.revision, "changed": changed,
	})
	if slices.Contains(changed, changedSharing) && !h.sharedAsIs() {
		if err := t.reshare(ctx, h); err != nil {
			return err
		}
	}
	if raised {
		if err := t.reorder(ctx, h, slices.Contains(changed, changedNames)); err != nil {
			return err
		}
	}
	if slices.Contains(changed, changedPolicy) || slices.Contains(changed, changedIssuers) {
		if err := t.reschedule(ctx, h); err != nil {
			return err
		}
	}
	return t.refreshStatus(ctx, h.id)
}

// some returns a list that is not nil: an empty array instead of NULL.
func some[T certctl.ID | string | netip.Addr](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// reorder replaces the open orders of a certificate whose revision has risen. An
// order that is at the CA is left to end; its holder is then due again, since
// its version has an older revision.
func (t *tx) reorder(ctx context.Context, h *held, names bool) error {
	live, err := t.liveOrders(ctx, h.id)
	if err != nil {
		return err
	}
	open := slices.DeleteFunc(live, func(o liveOrder) bool { return o.state == certctl.OrderProcessing })
	if err := t.cancelOrders(ctx, h.team, "the certificate was changed", open); err != nil {
		return err
	}
	if h.monitored() {
		return nil
	}
	waiting, err := t.guardChange(ctx, h)
	if err != nil {
		return err
	}
	var specs []orderSpec
	for _, holder := range h.holders {
		if waiting[holder.id] {
			continue
		}
		spec := orderSpec{Certificate: h.id, Holder: holder.id, Origin: certctl.OriginAPI, Urgency: certctl.UrgencyNow, Reason: "revision"}
		for _, o := range open {
			if o.holder == holder.id && holder.kind == certctl.HolderClient && !names {
				spec.CSR = t.stillGood(ctx, h, o.csr)
			}
		}
		specs = append(specs, spec)
	}
	_, err = t.newOrders(ctx, specs)
	return err
}

// stillGood returns a client's request for another order, when the profile as it
// is now allows its key; nil asks the client for a new one.
func (t *tx) stillGood(ctx context.Context, h *held, der []byte) *certctl.CSR {
	if der == nil {
		return nil
	}
	csr, err := certctl.RecordedCSR(der)
	if err != nil {
		return nil
	}
	profile, err := t.profile(ctx, h.profile)
	if err != nil || profile.CheckKey(csr.Algorithm) != nil {
		return nil
	}
	return csr
}

// reschedule computes anew when the versions of a certificate's holders are due,
// after its policy has changed, or the issuer without which nothing is.
func (t *tx) reschedule(ctx context.Context, h *held) error {
	policy, err := t.policy(ctx, h.policy)
	if err != nil {
		return err
	}
	current := make([]certctl.ID, 0, len(h.holders))
	for _, holder := range h.holders {
		current = append(current, holder.version)
	}
	rows, err := t.Query(ctx, `select id, holder_id, not_before, not_after from version where id = any($1)`, current)
	if err != nil {
		return err
	}
	versions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v certctl.Version, err error) {
		return v, row.Scan(&v.ID, &v.Holder, &v.NotBefore, &v.NotAfter)
	})
	if err != nil {
		return err
	}
	advice, err := t.advice(ctx, current)
	if err != nil {
		return err
	}
	for _, v := range versions {
		var at time.Time
		if !h.monitored() {
			at, _ = certctl.RenewAt(v.NotBefore, v.NotAfter, policy, spreadOf(v.ID))
		}
		if a, ok := advice[v.ID]; ok {
			if err := t.put(ctx, `update renewal_info set policy_at = $2 where version_id = $1`, v.ID, at); err != nil {
				return err
			}
			a.PolicyAt = at
			at = a.RenewAt(v.NotBefore, v.NotAfter, t.now)
		}
		if err := t.put(ctx, `update version set renew_at = $2 where id = $1`, v.ID, at); err != nil {
			return err
		}
		if at.IsZero() {
			err = t.done(ctx, dueHolder, v.Holder)
		} else {
			err = t.due(ctx, holderDue(v.Holder, at, v.NotAfter, t.now))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
