package store

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
)

// RedeployCertificate installs what is current once more on the targets of a
// certificate, or on one of them, whatever is there.
func (s *Store) RedeployCertificate(ctx context.Context, actor certctl.Actor, ref, target string) ([]certctl.Deployment, error) {
	var deployments []certctl.Deployment
	err := s.write(ctx, actor, func(t *tx) error {
		h, err := t.hold(ctx, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		if err := h.refusePaused(); err != nil {
			return err
		}
		specs, err := h.current(target)
		if err != nil {
			return err
		}
		t.event(h.team, certctl.AggregateCertificate, h.id, certctl.EventCertificateRedeployed, map[string]any{
			"certificate": h.id, "name": h.name, "targets": len(specs),
		})
		deployments, err = t.deployNow(ctx, h, specs)
		return err
	})
	return deployments, err
}

// current returns what is to be on the bindings of a target, or on all.
func (h *held) current(target string) ([]deploymentSpec, error) {
	var specs []deploymentSpec
	for _, b := range h.bindings {
		if target != "" && b.targetName != target && b.target.String() != target {
			continue
		}
		i := slices.IndexFunc(h.holders, func(x heldHolder) bool { return x.id == b.holder })
		if i >= 0 && !h.holders[i].version.IsZero() {
			specs = append(specs, deploymentSpec{h.id, b.id, b.target, b.agent, h.holders[i].version})
		}
	}
	switch {
	case len(specs) > 0:
		return specs, nil
	case target != "" && !slices.ContainsFunc(h.bindings, func(b heldBinding) bool { return b.targetName == target || b.target.String() == target }):
		return nil, certctl.Errorf(certctl.NotFound, "%s is not bound to a target %q", h.name, certctl.Clip(target, 100))
	}
	return nil, certctl.Errorf(certctl.Conflict, "%s has no leaf on a target yet", h.name)
}

// deployNow sends versions to bindings, in place of whatever is on its way there
// and whatever windows say.
func (t *tx) deployNow(ctx context.Context, h *held, specs []deploymentSpec) ([]certctl.Deployment, error) {
	bindings := make([]certctl.ID, len(specs))
	for i, spec := range specs {
		bindings[i] = spec.binding
	}
	if err := t.endDeployments(ctx, bindings...); err != nil {
		return nil, err
	}
	made, err := t.insertDeployments(ctx, specs)
	if err != nil {
		return nil, err
	}
	if err := t.release(ctx, made, nil); err != nil {
		return nil, err
	}
	if err := t.refreshStatus(ctx, h.id); err != nil {
		return nil, err
	}
	return t.deployments(ctx, made.ids)
}

// RollBackCertificate makes an earlier version of each holder, or of one, current
// again and installs it: the one before the current unless the request names it.
// A version that is revoked needs Force.
//
// The version is renewed again when half of what is left of it has passed, or
// when the certificate changes: the rollback itself makes nothing due.
func (s *Store) RollBackCertificate(ctx context.Context, actor certctl.Actor, ref string, request certctl.RollbackRequest) ([]certctl.Deployment, error) {
	var deployments []certctl.Deployment
	err := s.write(ctx, actor, func(t *tx) error {
		h, err := t.hold(ctx, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		if err := h.refusePaused(); err != nil {
			return err
		}
		back, err := t.earlier(ctx, h, request)
		if err != nil {
			return err
		}
		var specs []deploymentSpec
		for _, v := range back {
			if err := t.goBack(ctx, h, v); err != nil {
				return err
			}
			for _, b := range h.bindings {
				if b.holder == v.Holder {
					specs = append(specs, deploymentSpec{h.id, b.id, b.target, b.agent, v.ID})
				}
			}
		}
		deployments, err = t.deployNow(ctx, h, specs)
		return err
	})
	return deployments, err
}

// earlier returns the versions that a rollback goes to, one per holder.
func (t *tx) earlier(ctx context.Context, h *held, request certctl.RollbackRequest) ([]certctl.Version, error) {
	var ids []certctl.ID
	err := t.QueryRow(ctx, `
		select array(
			select coalesce($2, v.replaces) from holder h join version v on v.id = h.version_id
			where h.certificate_id = $1 and h.ended_at is null and ($3::uuid is null or h.id = $3)
				and ($2::uuid is null and v.replaces is not null or h.id = (select holder_id from version where id = $2)))`,
		h.id, request.Version, request.Holder).Scan(&ids)
	if err != nil {
		return nil, err
	}
	versions, err := t.versions(ctx, ids)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		return nil, certctl.Errorf(certctl.Conflict, "%s has no such earlier version", h.name).
			WithRemedy("certctl versions list --certificate %s shows those that there are", h.name)
	}
	compromised, err := t.compromised(ctx, keysOfVersions(versions))
	if err != nil {
		return nil, err
	}
	keyless, err := t.keylessVersions(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		switch {
		case compromised[v.SPKI]:
			return nil, certctl.Errorf(certctl.Conflict, "the key of version %s is compromised, and its nodes erase it: there is no way back", v.Serial).
				WithRemedy("renew the certificate instead")
		case slices.Contains(keyless, v.ID):
			return nil, certctl.Errorf(certctl.Conflict, "nobody is known to have the shared key of version %s any more", v.Serial).
				WithRemedy("renew the certificate instead")
		case slices.ContainsFunc(h.holders, func(x heldHolder) bool { return x.version == v.ID }):
			return nil, certctl.Errorf(certctl.Conflict, "version %s is the current one: redeploy installs it again", v.Serial)
		case !v.NotAfter.After(t.now):
			return nil, certctl.Errorf(certctl.Conflict, "version %s has ended on %s, and nodes install nothing that has ended", v.Serial, v.NotAfter.Format(time.DateOnly)).
				WithRemedy("renew the certificate instead")
		case !v.RevokedAt.IsZero() && !request.Force:
			return nil, certctl.Errorf(certctl.Conflict, "version %s is revoked", v.Serial).WithRemedy("force goes back to it all the same")
		}
	}
	return versions, nil
}

// goBack makes a version its holder's current one.
func (t *tx) goBack(ctx context.Context, h *held, v certctl.Version) error {
	i := slices.IndexFunc(h.holders, func(x heldHolder) bool { return x.id == v.Holder })
	if err := t.put(ctx, `update holder set version_id = $2, kept_revision = $3 where id = $1`, v.Holder, v.ID, h.revision); err != nil {
		return err
	}
	t.event(h.team, certctl.AggregateCertificate, h.id, certctl.EventCertificateRolledBack, map[string]any{
		"certificate": h.id, "name": h.name, "holder": v.Holder, "from": h.holders[i].version, "to": v.ID, "serial": v.Serial,
	})
	if err := t.watchVersions(ctx, v.ID); err != nil {
		return err
	}
	at := t.now.Add(v.NotAfter.Sub(t.now) / 2)
	if v.RenewAt.IsZero() {
		return t.done(ctx, dueHolder, v.Holder)
	}
	if at.After(v.RenewAt) {
		if err := t.put(ctx, `update version set renew_at = $2 where id = $1`, v.ID, at); err != nil {
			return err
		}
	} else {
		at = v.RenewAt
	}
	return t.due(ctx, holderDue(v.Holder, at, v.NotAfter, t.now))
}

func keysOfVersions(versions []certctl.Version) []certctl.Digest {
	spkis := make([]certctl.Digest, len(versions))
	for i, v := range versions {
		spkis[i] = v.SPKI
	}
	return spkis
}
