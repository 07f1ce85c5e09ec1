package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// dueAlert is the kind of a holder whose served leaves approach their ends.
const dueAlert = "alert"

// watchVersions is watchExpiry of versions that are stored.
func (t *tx) watchVersions(ctx context.Context, versions ...certctl.ID) error {
	rows, err := t.Query(ctx, `
		select v.holder_id, v.not_before, v.not_after, v.renew_at, c.policy_id
		from version v join certificate c on c.id = v.certificate_id join holder h on h.id = v.holder_id
		where v.id = any($1) and h.ended_at is null and c.purpose = 'user' order by v.holder_id`, versions)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s servedLeaf, err error) {
		return s, row.Scan(&s.holder, &s.notBefore, &s.notAfter, &s.renewAt, &s.policy)
	})
	if err != nil {
		return err
	}
	return t.watchExpiry(ctx, all)
}

// watchIssued is watchExpiry of leaves that were just issued.
func (t *tx) watchIssued(ctx context.Context, issued []*finishing) error {
	var all []servedLeaf
	for _, f := range issued {
		if !f.ended && !f.system {
			all = append(all, servedLeaf{holder: f.order.Holder, policy: f.policy,
				notBefore: f.leaf.NotBefore, notAfter: f.leaf.NotAfter, renewAt: f.end.RenewAt})
		}
	}
	return t.watchExpiry(ctx, all)
}

// watchExpiry makes the alerts of holders due that have got a new version: at its
// first threshold, or before, if something older is still watched.
func (t *tx) watchExpiry(ctx context.Context, all []servedLeaf) error {
	if len(all) == 0 {
		return nil
	}
	policies, err := t.alertPolicies(ctx, all)
	if err != nil {
		return err
	}
	var holders []certctl.ID
	var times []time.Time
	for _, s := range all {
		alerts := s.alerts(policies)
		if len(alerts) > 0 {
			holders, times = append(holders, s.holder), append(times, s.notAfter.Add(-time.Duration(alerts[0])))
		}
	}
	err = t.put(ctx, `
		insert into due (kind, id, verb, lane, urgency, due_at)
		select $3, id, $4, $5, $6, at from unnest($1::uuid[], $2::timestamptz[]) as new(id, at) order by id
		on conflict (kind, id) do update set due_at = least(due.due_at, excluded.due_at)`,
		holders, times, dueAlert, string(certctl.HintExpire), certctl.NoLane, int16(certctl.UrgencyNormal))
	return err
}

// servedLeaf is a leaf that some target serves, or that a client fetches.
type servedLeaf struct {
	holder, certificate, version, policy, order certctl.ID
	team, name                                  string
	serial                                      certctl.Serial
	notBefore, notAfter, renewAt                time.Time
	wait                                        certctl.WaitReason // of the holder's open order
	told                                        []int64            // thresholds
	served                                      bool               // false: on its way there
}

func (s servedLeaf) alerts(policies map[certctl.ID]certctl.RenewalPolicy) []certctl.Duration {
	return certctl.ExpiryAlerts(policies[s.policy].AlertBefore, s.notBefore, s.notAfter, s.renewAt)
}

func (t *tx) alertPolicies(ctx context.Context, all []servedLeaf) (map[certctl.ID]certctl.RenewalPolicy, error) {
	wanted := map[certctl.ID]bool{}
	for _, s := range all {
		wanted[s.policy] = true
	}
	return t.policiesByID(ctx, keysOf(wanted))
}

// AlertExpiring tells of those of the holders whose served leaves have passed a
// threshold of their policy, once each: what a target serves counts, and not the
// newest leaf, which may not have arrived. Each comes up again at the next
// threshold. Ids of anything else are passed over.
func (s *Store) AlertExpiring(ctx context.Context, ids []certctl.ID) error {
	return s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
		var holders []certctl.ID
		if err := t.QueryRow(ctx, `select array(select id from due where kind = $2 and id = any($1) order by id for update)`, ids, dueAlert).
			Scan(&holders); err != nil || len(holders) == 0 {
			return err
		}
		all, err := t.servedLeaves(ctx, holders)
		if err != nil {
			return err
		}
		policies, err := t.alertPolicies(ctx, all)
		if err != nil {
			return err
		}
		if err := t.done(ctx, dueAlert, holders...); err != nil {
			return err
		}
		again := map[certctl.ID]time.Time{}
		for _, leaf := range all {
			next, err := t.nextAlert(ctx, leaf, leaf.alerts(policies))
			if err != nil {
				return err
			}
			if known, ok := again[leaf.holder]; !next.IsZero() && (!ok || next.Before(known)) {
				again[leaf.holder] = next
			}
		}
		var due []dueRow
		for _, id := range sortedIDs(again) {
			due = append(due, dueRow{kind: dueAlert, id: id, verb: certctl.HintExpire, urgency: certctl.UrgencyNormal, at: again[id]})
		}
		return t.due(ctx, due...)
	})
}

// nextAlert tells of what a leaf has passed, if it is served, and returns when to
// look at it again.
func (t *tx) nextAlert(ctx context.Context, leaf servedLeaf, alerts []certctl.Duration) (next time.Time, err error) {
	if leaf.served {
		return t.alert(ctx, leaf, alerts)
	}
	if len(alerts) == 0 || !leaf.notAfter.After(t.now) {
		return time.Time{}, nil
	}
	// It may be served any moment.
	return maxTime(leaf.notAfter.Add(-time.Duration(alerts[0])), t.now.Add(certctl.Day)), nil
}

// alert tells of the thresholds that a leaf has passed and that nobody was told
// of, and returns when the next one is. Of several at once one event tells, of
// the shortest: the time that is left.
func (t *tx) alert(ctx context.Context, leaf servedLeaf, alerts []certctl.Duration) (next time.Time, err error) {
	passed, next := certctl.ExpiryAlertsPassed(alerts, leaf.notAfter, t.now)
	told := map[int64]bool{}
	for _, threshold := range leaf.told {
		told[threshold] = true
	}
	var fresh []int64
	for _, threshold := range passed {
		if !told[int64(threshold)] {
			fresh = append(fresh, int64(threshold))
		}
	}
	if len(fresh) == 0 || !leaf.notAfter.After(t.now) {
		return next, nil
	}
	if err := t.put(ctx, `insert into expiry_alert (version_id, threshold) select $1, unnest($2::bigint[]) on conflict do nothing`,
		leaf.version, fresh); err != nil {
		return next, err
	}
	data := map[string]any{
		"certificate": leaf.certificate, "name": leaf.name, "holder": leaf.holder, "version": leaf.version, "serial": leaf.serial,
		"not_after": leaf.notAfter, "threshold": certctl.Duration(fresh[len(fresh)-1]),
	}
	if !leaf.order.IsZero() {
		data["order"], data["wait"] = leaf.order, leaf.wait
	}
	t.event(leaf.team, certctl.AggregateCertificate, leaf.certificate, certctl.EventCertificateExpiring, data)
	return next, nil
}

// servedLeaves returns the leaves that the bindings of holders serve, as far as
// is known, and the holders' newest ones, which count as served where nothing is
// bound.
func (t *tx) servedLeaves(ctx context.Context, holders []certctl.ID) ([]servedLeaf, error) {
	rows, err := t.Query(ctx, `
		select h.id, c.id, team.name, c.name, c.policy_id, v.id, v.serial, v.not_before, v.not_after, v.renew_at, o.id, coalesce(o.wait, ''),
			array(select threshold from expiry_alert where version_id = v.id), true
		from holder h join certificate c on c.id = h.certificate_id join team on team.id = c.team_id
		cross join lateral (
			select distinct on (b.id) d.version_id from binding b join deployment d on d.binding_id = b.id
			where b.holder_id = h.id and b.unbound_at is null and d.state in ('verified', 'installed')
			order by b.id, d.number desc, d.verified_at desc nulls last, d.id desc) served
		join version v on v.id = served.version_id
		left join cert_order o on o.certificate_id = c.id and o.holder_id = h.id and o.live
		where h.id = any($1) and h.ended_at is null and c.archived_at is null
		union
		select h.id, c.id, team.name, c.name, c.policy_id, v.id, v.serial, v.not_before, v.not_after, v.renew_at, o.id, coalesce(o.wait, ''),
			array(select threshold from expiry_alert where version_id = v.id),
			not exists (select from binding where holder_id = h.id and unbound_at is null)
		from holder h join certificate c on c.id = h.certificate_id join team on team.id = c.team_id join version v on v.id = h.version_id
		left join cert_order o on o.certificate_id = c.id and o.holder_id = h.id and o.live
		where h.id = any($1) and h.ended_at is null and c.archived_at is null`, holders)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s servedLeaf, err error) {
		return s, row.Scan(&s.holder, &s.certificate, &s.team, &s.name, &s.policy, &s.version, &s.serial, &s.notBefore, &s.notAfter, &s.renewAt,
			&s.order, &s.wait, &s.told, &s.served)
	})
}

// lookAtExpiry has the alerts of a policy's certificates looked at now.
func (t *tx) lookAtExpiry(ctx context.Context, policy certctl.ID) error {
	err := t.put(ctx, `
		insert into due (kind, id, verb, lane, urgency, due_at)
		select $2, h.id, $3, $4, $5, now() from certificate c join holder h on h.certificate_id = c.id
		where c.policy_id = $1 and c.archived_at is null and c.purpose = 'user' and h.ended_at is null and h.version_id is not null order by h.id
		on conflict (kind, id) do update set due_at = excluded.due_at`,
		policy, dueAlert, string(certctl.HintExpire), certctl.NoLane, int16(certctl.UrgencyNormal))
	return err
}
