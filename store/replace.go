package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// revokeLater lets versions be revoked when they are replaced, and orders their
// replacements. What nobody serves any more, or nothing will replace, is revoked
// now.
func (t *tx) revokeLater(ctx context.Context, versions []revocable, reason certctl.RevocationReason) ([]certctl.ID, error) {
	now, later, err := t.replaceable(ctx, versions)
	if err != nil {
		return nil, err
	}
	ids, err := t.revoke(ctx, now, reason)
	if err != nil {
		return nil, err
	}
	if err := t.awaitReplacement(ctx, later, reason, certctl.NoID); err != nil {
		return nil, err
	}
	for _, v := range later {
		ids = append(ids, v.id)
	}
	return ids, t.replace(ctx, later)
}

// replaceable parts versions into those that will not be replaced and those that
// holders of certificates with an issuer hold now.
func (t *tx) replaceable(ctx context.Context, versions []revocable) (never, held []revocable, err error) {
	ids := make([]certctl.ID, len(versions))
	for i, v := range versions {
		ids[i] = v.id
	}
	rows, err := t.Query(ctx, `
		select h.version_id from holder h join certificate c on c.id = h.certificate_id
		where h.version_id = any($1) and h.ended_at is null and c.archived_at is null and c.issuers <> '{}' and c.purpose = 'user'`, ids)
	if err != nil {
		return nil, nil, err
	}
	current, err := setOf(rows)
	for _, v := range versions {
		if current[v.id] {
			held = append(held, v)
		} else {
			never = append(never, v)
		}
	}
	return never, held, err
}

// awaitReplacement records that versions are to be revoked once they are
// replaced, by orders of a rollout if one is named.
func (t *tx) awaitReplacement(ctx context.Context, versions []revocable, reason certctl.RevocationReason, rollout certctl.ID) error {
	if len(versions) == 0 {
		return nil
	}
	teams, err := t.teamsOfCertificates(ctx, versions)
	if err != nil {
		return err
	}
	ids, rows := make([]certctl.ID, len(versions)), make([]dueRow, len(versions))
	for i, v := range versions {
		ids[i] = v.id
		rows[i] = replacementDue(v.id, t.now.Add(time.Second))
		t.event(teams[v.certificate], certctl.AggregateCertificate, v.certificate, certctl.EventRevocationWaiting, map[string]any{
			"certificate": v.certificate, "version": v.id, "serial": v.serial, "fingerprint": v.fingerprint, "reason": reason,
		})
	}
	if err := t.put(ctx, `
		insert into revocation (version_id, issuer_id, reason, state, requester_id, rollout_id, ordered_at)
		select id, issuer_id, $2, 'waiting', $3, $4, now() from version where id = any($1)
		on conflict (version_id) do update set reason = excluded.reason, state = 'waiting', requester_id = excluded.requester_id,
			rollout_id = excluded.rollout_id, ordered_at = now(), created_at = now(), updated_at = now()
		where revocation.state = 'cancelled'`, ids, string(reason), t.actor.Principal.ID, rollout); err != nil {
		return err
	}
	return t.due(ctx, rows...)
}

// replacementDue is when a revocation that waits is looked at.
func replacementDue(version certctl.ID, at time.Time) dueRow {
	return dueRow{kind: dueRevocation, id: version, verb: certctl.HintReplace, urgency: certctl.UrgencyNormal, at: at}
}

// waitingRevocation is a revocation that waits, with what decides about it.
type waitingRevocation struct {
	revocable
	reason certctl.RevocationReason
	facts  certctl.ReplacementFacts
}

// SettleRevocations looks at revocations that wait, and revokes the versions that
// are replaced (certctl.ReplacementFacts decides). It returns how many it revoked.
func (s *Store) SettleRevocations(ctx context.Context, versions []certctl.ID) (int, error) {
	revoked := 0
	err := s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
		if err := t.lockCertificatesOf(ctx, `select certificate_id from version where id = any($1)`, versions); err != nil {
			return err
		}
		waiting, err := t.waitingRevocations(ctx, versions)
		if err != nil {
			return err
		}
		by := map[certctl.ReplacementStep][]waitingRevocation{}
		var again []dueRow
		for _, w := range waiting {
			step, at := w.facts.Next(t.now)
			by[step] = append(by[step], w)
			if !at.IsZero() {
				again = append(again, replacementDue(w.id, at))
			}
		}
		if err := t.due(ctx, again...); err != nil {
			return err
		}
		if err := t.dropRevocations(ctx, by[certctl.ReplacementDrop]); err != nil {
			return err
		}
		if err := t.orderAgain(ctx, by[certctl.ReplacementOrder]); err != nil {
			return err
		}
		revoked, err = t.revokeReplaced(ctx, by[certctl.ReplacementRevoke])
		return err
	})
	return revoked, err
}

// waitingRevocations reads those of the revocations that wait.
func (t *tx) waitingRevocations(ctx context.Context, versions []certctl.ID) ([]waitingRevocation, error) {
	rows, err := t.Query(ctx, `
		select v.id, v.certificate_id, v.holder_id, v.issuer_id, v.authority_id, v.serial, v.fingerprint, v.spki, v.not_after, r.reason,
			v.not_after <= now(), h.ended_at is not null or c.archived_at is not null or c.issuers = '{}',
			h.version_id is distinct from v.id, served.bindings, served.verified,
			exists (select from rollout where id = r.rollout_id and state = any('{running,stopped,halted}')),
			exists (select from cert_order where certificate_id = v.certificate_id and holder_id = v.holder_id and live),
			r.ordered_at, r.created_at
		from revocation r join version v on v.id = r.version_id join holder h on h.id = v.holder_id join certificate c on c.id = v.certificate_id
		cross join lateral (
			select count(b.id) as bindings, count(d.id) filter (where d.state in ('verified', 'installed')) as verified
			from binding b left join deployment d on d.binding_id = b.id and d.version_id = h.version_id
			where b.holder_id = h.id and b.unbound_at is null) served
		where r.version_id = any($1) and r.state = 'waiting' order by v.id for no key update of r`, versions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (w waitingRevocation, err error) {
		f := &w.facts
		return w, row.Scan(&w.id, &w.certificate, &w.holder, &w.issuer, &w.authority, &w.serial, &w.fingerprint, &w.spki, &w.notAfter, &w.reason,
			&f.Expired, &f.Gone, &f.Replaced, &f.Bound, &f.Verified, &f.Paced, &f.Open, &f.Ordered, &f.Since)
	})
}

// revokeReplaced revokes what waited for its replacement.
func (t *tx) revokeReplaced(ctx context.Context, waiting []waitingRevocation) (int, error) {
	byReason, certificates := map[certctl.RevocationReason][]revocable{}, map[certctl.ID]bool{}
	for _, w := range waiting {
		byReason[w.reason], certificates[w.certificate] = append(byReason[w.reason], w.revocable), true
	}
	revoked := 0
	for reason, versions := range byReason {
		ids, err := t.revoke(ctx, versions, reason)
		if err != nil {
			return 0, err
		}
		revoked += len(ids)
	}
	return revoked, t.refreshStatus(ctx, keysOf(certificates)...)
}

// orderAgain orders replacements once more that were refused or cancelled.
func (t *tx) orderAgain(ctx context.Context, waiting []waitingRevocation) error {
	if len(waiting) == 0 {
		return nil
	}
	versions, ids := make([]revocable, len(waiting)), make([]certctl.ID, len(waiting))
	for i, w := range waiting {
		versions[i], ids[i] = w.revocable, w.id
	}
	if err := t.put(ctx, `update revocation set ordered_at = now() where version_id = any($1)`, ids); err != nil {
		return err
	}
	return t.replace(ctx, versions)
}

// dropRevocations ends the waiting for what has ended by itself.
func (t *tx) dropRevocations(ctx context.Context, waiting []waitingRevocation) error {
	versions := make([]revocable, len(waiting))
	for i, w := range waiting {
		versions[i] = w.revocable
	}
	return t.cancelRevocations(ctx, versions, "the version has ended")
}

// cancelRevocations ends revocations that wait.
func (t *tx) cancelRevocations(ctx context.Context, versions []revocable, why string) error {
	if len(versions) == 0 {
		return nil
	}
	teams, err := t.teamsOfCertificates(ctx, versions)
	if err != nil {
		return err
	}
	ids := make([]certctl.ID, len(versions))
	for i, v := range versions {
		ids[i] = v.id
	}
	rows, err := t.Query(ctx, `
		update revocation set state = 'cancelled', message = $2, updated_at = now()
		where version_id = any($1) and state = 'waiting' returning version_id`, ids, why)
	if err != nil {
		return err
	}
	cancelled, err := setOf(rows)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if cancelled[v.id] {
			t.event(teams[v.certificate], certctl.AggregateCertificate, v.certificate, certctl.EventRevocationCancelled, map[string]any{
				"certificate": v.certificate, "version": v.id, "serial": v.serial, "fingerprint": v.fingerprint,
			})
		}
	}
	return t.done(ctx, dueRevocation, keysOf(cancelled)...)
}

// setOf collects rows of one id each.
func setOf(rows pgx.Rows) (map[certctl.ID]bool, error) {
	set := map[certctl.ID]bool{}
	var id certctl.ID
	_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
		set[id] = true
		return nil
	})
	return set, err
}
