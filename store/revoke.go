package store

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// revocable is a version that may be revoked.
type revocable struct {
	id, certificate, holder, issuer, authority certctl.ID
	serial                                     certctl.Serial
	fingerprint, spki                          certctl.Digest
	notAfter                                   time.Time
}

// RevokeVersions revokes a version, or the unexpired versions of a certificate
// (of one holder, if it is named), and returns those that it revoked. Their
// issuers are told, and the lists of our own authorities signed anew, by what is
// due from then on.
//
// With keyCompromise the key is blocked for ever, every unexpired version with
// it that the actor may revoke goes with it, whatever its certificate, and the
// holders get replacement orders before everything else. With other reasons a
// holder gets its next leaf when it is due: order one first to replace what is
// superseded.
func (s *Store) RevokeVersions(ctx context.Context, actor certctl.Actor, request certctl.RevokeRequest) ([]certctl.Version, error) {
	if err := checkRevocation(request); err != nil {
		return nil, err
	}
	var revoked []certctl.Version
	err := s.write(ctx, actor, func(t *tx) error {
		candidates, err := t.toRevoke(ctx, request)
		if err != nil {
			return err
		}
		certificates := map[certctl.ID]bool{}
		for _, v := range candidates {
			certificates[v.certificate] = true
		}
		if err := t.lockCertificates(ctx, keysOf(certificates)...); err != nil {
			return err
		}
		ids, err := t.revoke(ctx, candidates, request.Reason)
		if err != nil {
			return err
		}
		if err := t.refreshStatus(ctx, keysOf(certificates)...); err != nil {
			return err
		}
		revoked, err = t.versions(ctx, ids)
		return err
	})
	return revoked, err
}

func checkRevocation(request certctl.RevokeRequest) error {
	if _, known := request.Reason.Code(); !known {
		return certctl.InvalidField("/reason", "%q is not a reason that may be given", certctl.Clip(string(request.Reason), 40)).
			WithRemedy("use unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn")
	}
	if request.Version.IsZero() == (request.Certificate == "") {
		return certctl.Errorf(certctl.Invalid, "name either a version or a certificate")
	}
	return nil
}

// toRevoke finds what a request means, and authorises the actor for it. Revoking
// what is revoked already is a conflict, unless its key is now to be blocked.
func (t *tx) toRevoke(ctx context.Context, request certctl.RevokeRequest) ([]revocable, error) {
	certificate := request.Certificate
	if !request.Version.IsZero() {
		var owner certctl.ID
		if err := t.QueryRow(ctx, `select certificate_id from version where id = $1`, request.Version).Scan(&owner); err != nil {
			return nil, orNotFound(err, "version", request.Version)
		}
		certificate = owner.String()
	}
	f, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbRevoke, certificate)
	if err != nil {
		return nil, err
	}
	c := &conditions{}
	c.add("v.certificate_id = ?", f.id)
	if !request.Version.IsZero() {
		c.add("v.id = ?", request.Version)
	}
	if !request.Holder.IsZero() {
		c.add("v.holder_id = ?", request.Holder)
	}
	if request.Reason != certctl.ReasonKeyCompromise {
		c.add("v.revoked_at is null and v.not_after > now()")
		named, err := t.revocables(ctx, c)
		if err == nil && len(named) == 0 {
			err = certctl.Errorf(certctl.Conflict, "%s has nothing left to revoke: what was asked for is revoked or expired", f.name)
		}
		return named, err
	}
	if request.Version.IsZero() {
		c.add("v.not_after > now()") // an expired one whose key is out is named by itself
	}
	named, err := t.revocables(ctx, c)
	if err != nil {
		return nil, err
	}
	if len(named) == 0 {
		return nil, certctl.Errorf(certctl.Conflict, "%s has no version whose key could be compromised", f.name)
	}
	return t.sameKeys(ctx, named)
}

// sameKeys blocks the keys of versions, and returns every version with one of
// them that the actor may revoke, also those that are revoked or expired.
func (t *tx) sameKeys(ctx context.Context, named []revocable) ([]revocable, error) {
	spkis := make([]certctl.Digest, len(named))
	for i, v := range named {
		spkis[i] = v.spki
	}
	if _, err := t.Exec(ctx, `
		insert into blocked_key (spki, reason) select distinct spki, $2 from unnest($1::bytea[]) as k(spki) on conflict do nothing`,
		spkis, string(certctl.ReasonKeyCompromise)); err != nil {
		return nil, err
	}
	c := &conditions{}
	c.add("v.spki = any(?)", spkis)
	all, err := t.revocables(ctx, c)
	if err != nil {
		return nil, err
	}
	owners := map[string]bool{}
	for _, v := range all {
		owners[v.certificate.String()] = true
	}
	known, err := t.find(ctx, reading, certctl.ObjectCertificate, t.scope(""), sortedRefs(owners)...)
	return slices.DeleteFunc(all, func(v revocable) bool {
		f, ok := known[v.certificate.String()]
		return !ok || t.may(certctl.VerbRevoke, certctl.ObjectCertificate, f) != nil
	}), err
}

func (t *tx) revocables(ctx context.Context, c *conditions) ([]revocable, error) {
	rows, err := t.list(ctx, `
		select v.id, v.certificate_id, v.holder_id, v.issuer_id, v.authority_id, v.serial, v.fingerprint, v.spki, v.not_after
		from version v where `+c.String()+` order by v.id`, c)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (v revocable, err error) {
		return v, row.Scan(&v.id, &v.certificate, &v.holder, &v.issuer, &v.authority, &v.serial, &v.fingerprint, &v.spki, &v.notAfter)
	})
}

// revoke records the revocations and what must follow: the issuers' duty, the
// lists, and after a compromise the end of orders for the key and replacements.
//
// It returns the ids of the versions that it revoked.
func (t *tx) revoke(ctx context.Context, versions []revocable, reason certctl.RevocationReason) ([]certctl.ID, error) {
	teams, err := t.teamsOfCertificates(ctx, versions)
	if err != nil {
		return nil, err
	}
	all := versions
	versions, err = t.markRevoked(ctx, versions, reason)
	if err != nil {
		return nil, err
	}
	ids := make([]certctl.ID, len(versions))
	for i, v := range versions {
		ids[i] = v.id
		t.event(teams[v.certificate], certctl.AggregateCertificate, v.certificate, certctl.EventVersionRevoked, map[string]any{
			"certificate": v.certificate, "version": v.id, "serial": v.serial, "fingerprint": v.fingerprint, "reason": reason,
		})
	}
	// What no issuer of ours has issued, nobody here can revoke.
	if _, err := t.Exec(ctx, `
		insert into revocation (version_id, issuer_id, reason, state, requester_id)
		select id, issuer_id, $2, case when issuer_id is null then 'not_supported' else 'requested' end, $3
		from version where id = any($1) on conflict (version_id) do nothing`,
		ids, string(reason), t.actor.Principal.ID); err != nil {
		return nil, err
	}
	if err := t.tellIssuers(ctx, versions); err != nil || reason != certctl.ReasonKeyCompromise {
		return ids, err
	}
	return ids, t.replace(ctx, all, teams)
}

// markRevoked marks versions as revoked and returns those that were not yet:
// somebody else may have revoked some while this transaction waited for him.
func (t *tx) markRevoked(ctx context.Context, versions []revocable, reason certctl.RevocationReason) ([]revocable, error) {
	ids := make([]certctl.ID, len(versions))
	for i, v := range versions {
		ids[i] = v.id
	}
	rows, err := t.Query(ctx, `update version set revoked_at = now(), revocation = $2
		where id = any($1) and revoked_at is null and not_after > now() returning id`, ids, string(reason))
	if err != nil {
		return nil, err
	}
	marked, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	return slices.DeleteFunc(slices.Clone(versions), func(v revocable) bool { return !slices.Contains(marked, v.id) }), err
}

// tellIssuers makes the revocations due, and the lists of our own authorities.
func (t *tx) tellIssuers(ctx context.Context, versions []revocable) error {
	var due []dueRow
	lanes, authorities := map[string][]certctl.ID{}, map[certctl.ID]bool{}
	for _, v := range versions {
		if !v.issuer.IsZero() {
			lane := v.issuer.String()
			lanes[lane] = append(lanes[lane], v.id)
			due = append(due, dueRow{kind: dueRevocation, id: v.id, verb: certctl.HintRevoke, lane: lane, at: t.now.Add(agentReminder)})
		}
		if !v.authority.IsZero() && !authorities[v.authority] {
			authorities[v.authority] = true
			due = append(due, dueRow{kind: dueCRL, id: v.authority, verb: certctl.HintCRL, at: t.now.Add(agentReminder)})
		}
	}
	for lane, ids := range lanes {
		t.hints(certctl.HintRevoke, lane, ids)
	}
	t.hints(certctl.HintCRL, certctl.NoLane, keysOf(authorities))
	return t.due(ctx, due...)
}

// replace orders new leaves for the holders whose newest version had a key that
// is blocked now, and ends the orders that would certify it once more. Whoever
// renews the platform's own certificates is told to look at them.
func (t *tx) replace(ctx context.Context, versions []revocable, teams map[certctl.ID]string) error {
	certificates, ids := map[certctl.ID]bool{}, make([]certctl.ID, len(versions))
	for i, v := range versions {
		certificates[v.certificate], ids[i] = true, v.id
	}
	if err := t.endTainted(ctx, keysOf(certificates), versions, teams); err != nil {
		return err
	}
	if err := t.forgetTaintedNextKeys(ctx, versions); err != nil {
		return err
	}
	rows, err := t.Query(ctx, `
		select h.id, c.id, c.purpose from holder h join certificate c on c.id = h.certificate_id
		where h.version_id = any($1) and h.ended_at is null order by h.id`, ids)
	if err != nil {
		return err
	}
	var specs []orderSpec
	var own []dueRow
	spec, purpose := orderSpec{Origin: certctl.OriginAPI, Urgency: certctl.UrgencyNow, Reason: "revoked"}, certctl.PurposeUser
	if _, err := pgx.ForEachRow(rows, []any{&spec.Holder, &spec.Certificate, &purpose}, func() error {
		if purpose == certctl.PurposeSystem {
			own = append(own, dueRow{kind: dueSystem, id: spec.Certificate, verb: certctl.HintSystem, at: t.now})
			t.hint(certctl.HintSystem, certctl.NoLane, spec.Certificate)
			return nil
		}
		specs = append(specs, spec)
		return nil
	}); err != nil {
		return err
	}
	if err := t.due(ctx, own...); err != nil {
		return err
	}
	return t.orderFirst(ctx, specs, keysOf(certificates))
}

// orderFirst makes orders, and pulls forward those that are open already.
func (t *tx) orderFirst(ctx context.Context, specs []orderSpec, certificates []certctl.ID) error {
	made, err := t.newOrders(ctx, specs)
	if err != nil {
		return err
	}
	live, err := t.liveOrders(ctx, certificates...)
	if err != nil {
		return err
	}
	return t.pullForward(ctx, slices.DeleteFunc(live, func(o liveOrder) bool {
		return !slices.ContainsFunc(specs, func(s orderSpec) bool { return s.Holder == o.holder }) ||
			slices.ContainsFunc(made, func(m certctl.Order) bool { return m.ID == o.id })
	}))
}

// endTainted cancels the open orders of certificates for a key of the versions.
func (t *tx) endTainted(ctx context.Context, certificates []certctl.ID, versions []revocable, teams map[certctl.ID]string) error {
	spkis := make([]certctl.Digest, len(versions))
	for i, v := range versions {
		spkis[i] = v.spki
	}
	rows, err := t.Query(ctx, `
		select id, certificate_id, holder_id, state from cert_order
		where certificate_id = any($1) and live and csr_spki = any($2) order by id for no key update`, certificates, spkis)
	if err != nil {
		return err
	}
	tainted, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o liveOrder, err error) {
		return o, row.Scan(&o.id, &o.certificate, &o.holder, &o.state)
	})
	if err != nil {
		return err
	}
	for _, o := range tainted {
		if err := t.cancelOrders(ctx, teams[o.certificate], "its key is compromised", []liveOrder{o}); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) teamsOfCertificates(ctx context.Context, versions []revocable) (map[certctl.ID]string, error) {
	ids := make([]certctl.ID, len(versions))
	for i, v := range versions {
		ids[i] = v.certificate
	}
	rows, err := t.Query(ctx, `select c.id, team.name from certificate c join team on team.id = c.team_id where c.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	teams := make(map[certctl.ID]string, len(versions))
	var id certctl.ID
	var team string
	_, err = pgx.ForEachRow(rows, []any{&id, &team}, func() error {
		teams[id] = team
		return nil
	})
	return teams, err
}
