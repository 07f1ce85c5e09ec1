package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// sweptHolder is a holder that may be due, with what decides.
type sweptHolder struct {
	id, certificate, policy certctl.ID
	facts                   certctl.HolderFacts
	behind                  bool // due for a change that nobody has let go
}

// RenewHolders makes the orders of those holders that are due
// (certctl.HolderDue decides), and returns how many it made. A holder that is
// not due comes up again when it may be; one with an open order when that ends.
func (s *Store) RenewHolders(ctx context.Context, ids []certctl.ID) (int, error) {
	made := 0
	err := s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
		if err := t.lockCertificatesOf(ctx, `select certificate_id from holder where id = any($1)`, ids); err != nil {
			return err
		}
		holders, err := t.sweptHolders(ctx, ids)
		if err != nil {
			return err
		}
		if err := t.guardHolders(ctx, holders); err != nil {
			return err
		}
		unheard, err := t.unheard(ctx, ids)
		if err != nil {
			return err
		}
		var specs []orderSpec
		var later []dueRow
		for _, h := range holders {
			switch d := certctl.HolderDue(h.facts, t.now); {
			case d.Due && unheard[h.id] && !h.facts.Revoked:
				later = append(later, holderDue(h.id, t.now.Add(unheardAgain), h.facts.NotAfter, t.now))
			case d.Due:
				specs = append(specs, orderSpec{Certificate: h.certificate, Holder: h.id, Origin: certctl.OriginSweep,
					Urgency: sweepUrgency(h.facts, t.now), Reason: d.Reason})
			case !d.At.IsZero():
				later = append(later, holderDue(h.id, guardedUntil(d, t.now), h.facts.NotAfter, t.now))
			}
		}
		// What is due again is set below, what is ordered when the order ends.
		if err := t.done(ctx, dueHolder, ids...); err != nil {
			return err
		}
		if err := t.due(ctx, later...); err != nil {
			return err
		}
		if made, err = t.sweep(ctx, specs); err != nil {
			return err
		}
		return t.share(ctx, true, ids...)
	})
	return made, err
}

// sweepUrgency of a renewal: by the time that is left, and at once where the
// leaf is not to be trusted any more.
func sweepUrgency(f certctl.HolderFacts, now time.Time) certctl.Urgency {
	if f.Revoked {
		return certctl.UrgencyNow
	}
	return certctl.RenewalUrgency(f.NotAfter, now)
}

// sweep makes the orders, after imports that are renewed here have got keys that
// are made where they are used.
func (t *tx) sweep(ctx context.Context, specs []orderSpec) (int, error) {
	if len(specs) == 0 {
		return 0, nil
	}
	specs, err := t.adopt(ctx, specs)
	if err != nil {
		return 0, err
	}
	orders, err := t.newOrders(ctx, specs)
	if err != nil {
		return 0, err
	}
	certificates := map[certctl.ID]bool{}
	for _, o := range orders {
		certificates[o.Certificate] = true
	}
	return len(orders), t.refreshStatus(ctx, keysOf(certificates)...)
}

// sweptHolders reads what decides about holders that have not ended.
func (t *tx) sweptHolders(ctx context.Context, ids []certctl.ID) ([]sweptHolder, error) {
	rows, err := t.Query(ctx, `
		select h.id, h.certificate_id, c.policy_id, c.labels, c.paused, c.revision, coalesce(greatest(v.revision, h.kept_revision), 0),
			coalesce(v.revoked_at is not null or exists (select from blocked_key where spki = v.spki), false),
			v.not_before, v.not_after, v.created_at, v.renew_at, c.issuers = '{}' or c.archived_at is not null or c.purpose = 'system',
			served.bindings, served.verified, coalesce(`+behindGuard+`, false), (select held_at is not null from guard),
			key.waiting, key.since, key.givers, key.online, info.recalled_at is not null
		from holder h join certificate c on c.id = h.certificate_id left join version v on v.id = h.version_id
		left join renewal_info info on info.version_id = h.version_id
		cross join lateral (
			select count(b.id) as bindings, count(d.id) filter (where d.state in ('verified', 'installed')) as verified
			from binding b left join deployment d on d.binding_id = b.id and d.version_id = h.version_id
			where b.holder_id = h.id and b.unbound_at is null) served
		cross join lateral (
			select count(*) filter (where k.spki is null and m.refused = '' and a.state = 'active') as waiting,
				min(greatest(m.joined_at, v.created_at)) filter (where k.spki is null and m.refused = '' and a.state = 'active') as since,
				count(k.spki) as givers, coalesce(bool_or(k.held_at is not null and a.state = 'active' and contact.at > now() - $2::interval), false) as online
			from holder_member m join agent a on a.id = m.agent_id left join agent_contact contact on contact.agent_id = a.id
			left join member_key k on k.holder_id = m.holder_id and k.agent_id = m.agent_id and k.spki = v.spki
			where m.holder_id = h.id and m.left_at is null and v.id is not null and h.sealed_key is null) key
		where h.id = any($1) and h.ended_at is null order by h.id`, ids, certctl.OfflineAfter)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h sweptHolder, err error) {
		f := &h.facts
		err = row.Scan(&h.id, &h.certificate, &h.policy, &f.Holds.Labels, &f.Paused, &f.Revision, &f.VersionRevision, &f.Revoked,
			&f.NotBefore, &f.NotAfter, &f.IssuedAt, &f.RenewAt, &f.Unmanaged, &f.Deployed, &f.Verified, &h.behind, &f.Guarded,
			&f.Waiting, &f.WaitingSince, &f.Givers, &f.GiverOnline, &f.Recalled)
		f.Guarded = f.Guarded && h.behind
		return h, err
	})
	if err != nil {
		return nil, err
	}
	return all, t.addHolds(ctx, all)
}

// addHolds adds the freezes that there are, and the issue windows of the
// holders' policies.
func (t *tx) addHolds(ctx context.Context, all []sweptHolder) error {
	freezes, err := t.freezes(ctx)
	if err != nil {
		return err
	}
	wanted := map[certctl.ID]bool{}
	for _, h := range all {
		wanted[h.policy] = true
	}
	policies, err := t.policiesByID(ctx, keysOf(wanted))
	for i := range all {
		holds := &all[i].facts.Holds
		holds.Freezes, holds.Windows = freezes, policies[all[i].policy].IssueWindows
	}
	return err
}

// lockCertificatesOf locks the certificates that a query of their ids finds.
func (t *tx) lockCertificatesOf(ctx context.Context, query string, args ...any) error {
	err := t.put(ctx, `select from certificate where id = any(array(`+query+`)) order by id for no key update`, args...)
	return err
}
