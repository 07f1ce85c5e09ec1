package store_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// happened makes an event of after a backup.
func (w *world) happened(aggregate certctl.Aggregate, object certctl.ID, sequence int64, name certctl.EventName, data map[string]any) certctl.Event {
	w.t.Helper()
	encoded, err := json.Marshal(data)
	if err != nil {
		w.t.Fatal(err)
	}
	now := w.moment().Truncate(time.Millisecond)
	return certctl.Event{
		ID: certctl.NewID(now), Time: now, Team: certctl.DefaultTeam, Aggregate: aggregate, Object: object, Sequence: sequence, Name: name,
		Actor: "admin", ActorKind: certctl.PrincipalUser, Outcome: certctl.OutcomeSuccess, Data: encoded,
	}
}

// recovers begins a recovery and takes events in.
func (w *world) recovers(events ...certctl.Event) certctl.Recovery {
	w.t.Helper()
	if err := w.BeginRecovery(w.ctx, w.moment()); err != nil {
		w.t.Fatal(err)
	}
	r, err := w.Recovery(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if n, err := w.TakeEvents(w.ctx, r.ID, events); err != nil || n != len(events) {
		w.t.Fatalf("%d of %d events taken, %v", n, len(events), err)
	}
	return r
}

// What was ended after the backup is ended again, at the time when it was.
func TestWhatWasEndedStaysEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	agent := w.agent("web1")
	key, token, reader := certctl.NewID(time.Now()), certctl.NewID(time.Now()), certctl.NewID(time.Now())
	w.exec(`with p as (insert into principal (id, kind, name) values ($1, 'service', 'robot') returning id)
		insert into api_key (id, principal_id, name, prefix, hash) select $1, id, 'k', 'cck_', 'hash' from p`, key)
	w.exec(`insert into join_token (id, team_id, prefix, hash, uses_left, expires_at, approve)
		select $1, id, 'x', 'hash', 1, now() + interval '1 day', true from team where name = 'default'`, token)
	w.exec(`insert into reader (id, team_id, name, filters, expires_at) select $1, id, 'siem', '{}', now() + interval '1 day' from team where name = 'default'`, reader)
	events := []certctl.Event{
		w.happened(certctl.AggregateAgent, agent, 1, certctl.EventAgentRetired, map[string]any{"agent": agent}),
		w.happened(certctl.AggregateAccess, key, 1, certctl.EventAPIKeyRevoked, map[string]any{"key": key}),
		w.happened(certctl.AggregateAccess, token, 1, certctl.EventJoinTokenRevoked, map[string]any{"token": token}),
		w.happened(certctl.AggregateAccess, reader, 1, certctl.EventReaderRevoked, map[string]any{"reader": reader}),
	}
	w.recovers(events...)
	for _, query := range []string{
		`select count(*) from agent where state = 'retired' and id = $1 and retired_at = $2`,
		`select count(*) from api_key where id = $1 and revoked_at = $2`,
		`select count(*) from join_token where id = $1 and revoked_at = $2`,
		`select count(*) from reader where id = $1 and revoked_at = $2`,
	} {
		e := events[0]
		events = events[1:]
		if w.count(query, e.Object, e.Time) != 1 {
			t.Errorf("%s holds no more", e.Name)
		}
	}
}

// A revocation of after the backup is a revocation again: of a version that is
// known, and of a leaf that only its events tell of.
func TestRevocationsAreMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	first := w.orders(c, "")[0]
	w.exec(`update cert_order set csr = $2, csr_spki = $3 where id = $1`, first.ID, csrFor(t, "shop.example.com").DER, []byte("key"))
	id := w.issue(first)
	authority := certctl.NewID(time.Now())
	w.exec(`insert into authority (id, issuer_id, state, is_root, certificate, key_uri, sealed_key, pki_url, shards, not_after)
		values ($1, $2, 'active', false, '', 'file:', 'key', '', 4, now() + interval '1 year')`, authority, w.issuer.ID)
	w.exec(`update version set authority_id = $2 where id = $1`, id, authority)
	w.exec(`insert into crl (authority_id, shard, number, der, this_update, next_update) values ($1, -1, 9, '', now(), now())`, authority)
	v := w.holders(c)[0].Version
	lost := certctl.NewID(time.Now())
	fingerprint := certctl.DigestOf([]byte("lost"))
	next := int64(w.count(`select sequence from event_head where object_id = $1`, c.ID))
	leaf := func(version certctl.ID, serial certctl.Serial, fingerprint certctl.Digest, reason certctl.RevocationReason) map[string]any {
		return map[string]any{"certificate": c.ID, "version": version, "serial": serial, "fingerprint": fingerprint, "reason": reason,
			"issuer": w.issuer.ID, "not_after": w.moment().Add(certctl.Day)}
	}
	events := []certctl.Event{
		w.happened(certctl.AggregateCertificate, c.ID, next+1, certctl.EventCertificateIssued, leaf(lost, "0102", fingerprint, "")),
		w.happened(certctl.AggregateCertificate, c.ID, next+2, certctl.EventVersionRevoked, leaf(lost, "0102", fingerprint, certctl.ReasonSuperseded)),
		w.happened(certctl.AggregateCertificate, c.ID, next+3, certctl.EventVersionRevoked, leaf(id, v.Serial, v.Fingerprint, certctl.ReasonKeyCompromise)),
	}
	r := w.recovers(events...)

	entries, err := w.RevokedEntries(w.ctx, authority, certctl.CompleteCRL)
	if err != nil || len(entries) != 2 {
		t.Errorf("entries %+v, %v", entries, err)
	}
	statuses, _, err := w.SerialStatuses(w.ctx, authority, []certctl.Serial{"0102", v.Serial, "0a"})
	if err != nil || !statuses["0102"].RevokedAt.Equal(events[1].Time) || statuses[v.Serial].Reason != certctl.ReasonKeyCompromise || statuses["0a"].Known {
		t.Errorf("statuses %+v, %v", statuses, err)
	}
	for what, query := range map[string]string{
		"the key is blocked":       `select count(*) from blocked_key where spki = (select spki from version where id = $1)`,
		"its issuer is told":       `select count(*) from revocation r join due on due.kind = 'revocation' and due.id = r.version_id where r.version_id = $1`,
		"its holder is due":        `select count(*) from due join holder h on h.id = due.id where due.kind = 'holder' and h.version_id = $1`,
		"the stored list is gone":  `select count(*) from version where id = $1 and not exists (select from crl)`,
		"a new list is to be made": `select count(*) from version v join due on due.kind = 'crl' and due.id = v.authority_id where v.id = $1`,
	} {
		if w.count(query, id) != 1 {
			t.Errorf("not so: %s", what)
		}
	}
	if _, err := w.FinishRecovery(w.ctx, w.admin, false); err != nil {
		t.Fatal(err)
	}
	if recovering, err := w.Recovering(w.ctx); err != nil || !recovering {
		t.Errorf("recovering %v, %v, though the stream is not read to its end", recovering, err)
	}
	w.exec(`insert into installation (id) values (gen_random_uuid()) on conflict do nothing`)
	if err := w.EndStream(w.ctx, r.ID, certctl.StreamRead); err != nil {
		t.Fatal(err)
	}
	refused(t, w.EndStream(w.ctx, r.ID, certctl.StreamSkipped), certctl.NotFound)
	if finished, err := w.FinishRecovery(w.ctx, w.admin, true); err != nil || !finished {
		t.Errorf("finished %v, %v", finished, err)
	}
	if finished, err := w.FinishRecovery(w.ctx, w.admin, true); err != nil || finished {
		t.Errorf("finished %v, %v, the second time", finished, err)
	}
	w.consistentButPublished()
}

// A shared key is renewed again once one of its members has said what it has.
func TestASharedKeyWaitsAfterARestoreForOneMember(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, agents := w.shared("shop", 3)
	w.cycle(c)
	w.exec(`update deployment set state = 'verified', wait = ''`)
	w.exec(`update version set renew_at = now() - interval '1 hour'`)
	w.recovers()
	renewed := func() int {
		t.Helper()
		n, err := w.RenewHolders(w.ctx, []certctl.ID{w.holders(c)[0].Holder.ID})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := renewed(); n != 0 {
		t.Errorf("%d orders while nobody has been heard", n)
	}
	w.exec(`update recovery_agent set heard_at = now() where agent_id = $1`, agents[1])
	if n := renewed(); n != 1 {
		t.Errorf("%d orders once a member has been heard", n)
	}
}
