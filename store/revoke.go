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
// With keyCompromise the key is blocked for ever, and every unexpired version
// with it that the actor may revoke goes with it, whatever its certificate.
//
// What is replaced before its revocation is in the answer, too, and not revoked
// yet: it waits until the new leaf is verified everywhere, see SettleRevocations.
func (s *Store) RevokeVersions(ctx context.Context, actor certctl.Actor, request certctl.RevokeRequest) ([]certctl.Version, error) {
	if err := checkRevocation(&request); err != nil {
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
		ids, err := t.revokeAs(ctx, candidates, request.Reason, request.Replace)
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

// checkRevocation refuses what cannot be done, and fills in what the reason says.
func checkRevocation(request *certctl.RevokeRequest) (err error) {
	if _, known := request.Reason.Code(); !known {
		return certctl.InvalidField("/reason", "%q is not a reason that may be given", certctl.Clip(string(request.Reason), 40)).
			WithRemedy("use unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn")
	}
	if request.Version.IsZero() == (request.Certificate == "") {
		return certctl.Errorf(certctl.Invalid, "name either a version or a certificate")
	}
	request.Replace, err = request.Replacement()
	return err
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
		if request.Replace == certctl.ReplaceBefore {
			c.add("not exists (select from revocation where version_id = v.id and state = 'waiting')")
		}
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
	if err := t.put(ctx, `
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

// revokeAs revokes versions and replaces them when it is asked to. It returns the
// ids of those that are revoked now, or will be.
func (t *tx) revokeAs(ctx context.Context, versions []revocable, reason certctl.RevocationReason, replace certctl.Replacement) ([]certctl.ID, error) {
	if replace == certctl.ReplaceBefore {
		return t.revokeLater(ctx, versions, reason)
	}
	ids, err := t.revoke(ctx, versions, reason)
	if err == nil && replace == certctl.ReplaceAfter {
		err = t.replace(ctx, versions)
	}
	return ids, err
}

// revoke records the revocations and what must follow: the issuers' duty, the
// lists, and after a compromise the end of orders for the key.
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
			"authority": v.authority, "spki": v.spki, "not_after": v.notAfter,
		})
	}
	// What no issuer of ours has issued, nobody here can revoke.
	if err := t.put(ctx, `
		insert into revocation (version_id, issuer_id, reason, state, requester_id)
		select id, issuer_id, $2, case when issuer_id is null then 'not_supported' else 'requested' end, $3
		from version where id = any($1)
		on conflict (version_id) do update set reason = excluded.reason, state = excluded.state,
			requester_id = coalesce(excluded.requester_id, revocation.requester_id), updated_at = now()
		where revocation.state in ('waiting', 'cancelled')`,
		ids, string(reason), t.actor.Principal.ID); err != nil {
		return nil, err
	}
	if err := t.tellIssuers(ctx, versions); err != nil || reason != certctl.ReasonKeyCompromise {
		return ids, err
	}
	if err := t.forgetTaintedNextKeys(ctx, all); err != nil {
		return nil, err
	}
	if err := t.eraseKeys(ctx, all); err != nil {
		return nil, err
	}
	return ids, t.endTainted(ctx, all, teams)
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
	marked, err := setOf(rows)
	return slices.DeleteFunc(slices.Clone(versions), func(v revocable) bool { return !marked[v.id] }), err
}

// tellIssuers makes the revocations due, and the lists of our own authorities.
func (t *tx) tellIssuers(ctx context.Context, versions []revocable) error {
	var due []dueRow
	var unissued []certctl.ID
	lanes, authorities := map[string][]certctl.ID{}, map[certctl.ID]bool{}
	for _, v := range versions {
		if v.issuer.IsZero() {
			unissued = append(unissued, v.id)
		} else {
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
	if err := t.done(ctx, dueRevocation, unissued...); err != nil {
		return err
	}
	return t.due(ctx, due...)
}

// replace orders new leaves for the holders whose newest version is among the
// versions. Whoever renews the platform's own certificates is told to look at
// them.
func (t *tx) replace(ctx context.Context, versions []revocable) error {
	certificates, ids := map[certctl.ID]bool{}, make([]certctl.ID, len(versions))
	for i, v := range versions {
		certificates[v.certificate], ids[i] = true, v.id
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
	wanted, fresh := make(map[certctl.ID]bool, len(specs)), make(map[certctl.ID]bool, len(made))
	for _, spec := range specs {
		wanted[spec.Holder] = true
	}
	for _, o := range made {
		fresh[o.ID] = true
	}
	return t.pullForward(ctx, slices.DeleteFunc(live, func(o liveOrder) bool { return !wanted[o.holder] || fresh[o.id] }))
}

// endTainted cancels the open orders of the versions' certificates for one of
// their keys, which would certify it once more.
func (t *tx) endTainted(ctx context.Context, versions []revocable, teams map[certctl.ID]string) error {
	certificates, spkis := make([]certctl.ID, len(versions)), make([]certctl.Digest, len(versions))
	for i, v := range versions {
		certificates[i], spkis[i] = v.certificate, v.spki
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
	holders := make([]certctl.ID, len(tainted))
	for i, o := range tainted {
		holders[i] = o.holder
		if err := t.cancelOrders(ctx, teams[o.certificate], "its key is compromised", []liveOrder{o}); err != nil {
			return err
		}
	}
	return t.reconsider(ctx, holders...)
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
