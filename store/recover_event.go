package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// TakeEvents takes in events that the stream still has, with their own ids and
// places in their objects' histories, and what follows from them: leaves that
// were issued, and everything that was revoked. Those that are known change
// nothing; none is published again. It returns how many were new.
func (s *Store) TakeEvents(ctx context.Context, recovery certctl.ID, events []certctl.Event) (int, error) {
	taken := 0
	err := s.write(ctx, certctl.SystemActor("scheduler"), func(t *tx) error {
		fresh, err := t.storeEvents(ctx, events)
		if err != nil {
			return err
		}
		for _, e := range fresh {
			if err := t.applyEvent(ctx, e); err != nil {
				return err
			}
		}
		taken = len(fresh)
		err = t.put(ctx, `update recovery set events = events + $2 where id = $1`, recovery, taken)
		return err
	})
	return taken, err
}

// storeEvents stores those of the events that are new, and returns them.
func (t *tx) storeEvents(ctx context.Context, events []certctl.Event) ([]certctl.Event, error) {
	var fresh []certctl.Event
	ids := make([]certctl.ID, len(events))
	for i, e := range events {
		ids[i] = e.ID
		body, err := e.Canonical()
		if err != nil {
			return nil, err
		}
		sum := certctl.DigestOf(body)
		tag, err := t.Exec(ctx, `
			insert into event (id, team_id, aggregate, object_id, sequence, name, actor, outcome, trace, body, sha256)
			select $1, coalesce((select id from team where name = $2), (select id from team where name = $3)), $4, $5, $6, $7, $8, $9, $10, $11, $12
			on conflict (id) do nothing`,
			e.ID, e.Team, certctl.DefaultTeam, string(e.Aggregate), e.Object, e.Sequence, string(e.Name), e.Actor, e.Outcome, e.Trace, body, sum)
		if err != nil {
			return nil, err
		}
		if tag.RowsAffected() == 0 {
			continue
		}
		if err := t.put(ctx, `
			insert into event_head as head (object_id, sequence) values ($1, $2)
			on conflict (object_id) do update set sequence = greatest(head.sequence, excluded.sequence)`, e.Object, e.Sequence); err != nil {
			return nil, err
		}
		fresh = append(fresh, e)
	}
	// What the stream has need not be published, whatever the backup thinks.
	err := t.put(ctx, `delete from event_out where id = any($1)`, ids)
	return fresh, err
}

// leafFacts is what events say of a leaf.
type leafFacts struct {
	Certificate certctl.ID               `json:"certificate"`
	Order       certctl.ID               `json:"order"`
	Version     certctl.ID               `json:"version"`
	Issuer      certctl.ID               `json:"issuer"`
	Authority   certctl.ID               `json:"authority"`
	Serial      certctl.Serial           `json:"serial"`
	Fingerprint certctl.Digest           `json:"fingerprint"`
	SPKI        certctl.Digest           `json:"spki"`
	NotAfter    time.Time                `json:"not_after"`
	Reason      certctl.RevocationReason `json:"reason"`
}

// applyEvent restores what followed from an event. Ends of things hold again;
// what was made anew after the backup cannot be made of ids and names.
func (t *tx) applyEvent(ctx context.Context, e certctl.Event) error {
	var leaf leafFacts
	var ended struct {
		Key    certctl.ID `json:"key"`
		Token  certctl.ID `json:"token"`
		Reader certctl.ID `json:"reader"`
	}
	statement, id := "", certctl.NoID
	switch e.Name {
	case certctl.EventCertificateIssued, certctl.EventVersionOrphaned, certctl.EventVersionRevoked:
		if err := json.Unmarshal(e.Data, &leaf); err != nil || leaf.Version.IsZero() || leaf.Serial == "" {
			return nil //nolint:nilerr // an event that says less than today's is still part of the history
		}
		if e.Name == certctl.EventVersionRevoked {
			return t.revokeAgain(ctx, leaf, e.Time)
		}
		return t.stub(ctx, leaf, e.Time)
	case certctl.EventAgentRetired:
		if err := t.endKeys(ctx, e.Object); err != nil {
			return err
		}
		statement, id = `update agent set state = 'retired', state_reason = '', retired_at = $2 where id = $1 and state <> 'retired'`, e.Object
	case certctl.EventAPIKeyRevoked, certctl.EventJoinTokenRevoked, certctl.EventReaderRevoked:
		if err := json.Unmarshal(e.Data, &ended); err != nil {
			return nil //nolint:nilerr // as above
		}
		switch e.Name {
		case certctl.EventAPIKeyRevoked:
			statement, id = `update api_key set revoked_at = $2 where id = $1 and revoked_at is null`, ended.Key
		case certctl.EventJoinTokenRevoked:
			statement, id = `update join_token set revoked_at = $2 where id = $1 and revoked_at is null`, ended.Token
		default:
			statement, id = `update reader set revoked_at = $2 where id = $1 and revoked_at is null`, ended.Reader
		}
	}
	if id.IsZero() {
		return nil
	}
	err := t.put(ctx, statement, id, e.Time)
	return err
}

// stub records a leaf of which there is only the event. Events of releases that
// did not name the authority mean the issuer's active one.
func (t *tx) stub(ctx context.Context, leaf leafFacts, at time.Time) error {
	err := t.put(ctx, `
		insert into version_stub (version_id, certificate_id, order_id, issuer_id, authority_id, serial, fingerprint, not_after)
		select $1, $2, $3, coalesce($4, a.issuer_id), a.id, $6, $7, coalesce($8, a.not_after, $9::timestamptz)
		from (select) one left join lateral (
			select id, issuer_id, not_after from authority
			where id = $5 or $5 is null and not is_root and certificate is not null
				and issuer_id = any(coalesce(array[$4::uuid], (select issuers from certificate where id = $2)))
			order by state = 'active' desc, created_at desc limit 1) a on true
		where not exists (select from version where id = $1 or fingerprint = $7) on conflict (version_id) do nothing`,
		leaf.Version, leaf.Certificate, leaf.Order, leaf.Issuer, leaf.Authority, string(leaf.Serial), leaf.Fingerprint, leaf.NotAfter,
		at.AddDate(10, 0, 0))
	return err
}

// revokeAgain revokes a version, or a stub of one, as it was revoked after the
// backup, and has its issuer and the lists told.
func (t *tx) revokeAgain(ctx context.Context, leaf leafFacts, at time.Time) error {
	if err := t.stub(ctx, leaf, at); err != nil {
		return err
	}
	var stubs []certctl.ID
	err := t.QueryRow(ctx, `
		with s as (update version_stub set revoked_at = $2, revocation = $3 where version_id = $1 and revoked_at is null returning authority_id)
		select array(select authority_id from s where authority_id is not null)`, leaf.Version, at, string(leaf.Reason)).Scan(&stubs)
	if err != nil {
		return err
	}
	rows, err := t.Query(ctx, `
		update version set revoked_at = $2, revocation = $3 where id = $1 and revoked_at is null
		returning id, certificate_id, holder_id, issuer_id, authority_id, serial, fingerprint, spki, not_after`,
		leaf.Version, at, string(leaf.Reason))
	if err != nil {
		return err
	}
	revoked, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v revocable, err error) {
		return v, row.Scan(&v.id, &v.certificate, &v.holder, &v.issuer, &v.authority, &v.serial, &v.fingerprint, &v.spki, &v.notAfter)
	})
	if err != nil {
		return err
	}
	if leaf.Reason == certctl.ReasonKeyCompromise {
		if err := t.put(ctx, `
			insert into blocked_key (spki, reason)
			select spki, $3 from (select spki from version where id = $1 union select $2::bytea) k where spki is not null on conflict do nothing`,
			leaf.Version, leaf.SPKI, string(leaf.Reason)); err != nil {
			return err
		}
	}
	return t.announceRevoked(ctx, revoked, stubs, leaf.Reason)
}

// announceRevoked makes due what follows from revocations of the past.
func (t *tx) announceRevoked(ctx context.Context, revoked []revocable, stubs []certctl.ID, reason certctl.RevocationReason) error {
	var certificates []certctl.ID
	var holders []dueRow
	for _, v := range revoked {
		if err := t.put(ctx, `
			insert into revocation (version_id, issuer_id, reason, state)
			values ($1, $2, $3, case when $2::uuid is null then 'not_supported' else 'requested' end) on conflict (version_id) do nothing`,
			v.id, v.issuer, string(reason)); err != nil {
			return err
		}
		certificates = append(certificates, v.certificate)
		holders = append(holders, holderDue(v.holder, t.now, v.notAfter, t.now))
	}
	if err := t.tellIssuers(ctx, revoked); err != nil {
		return err
	}
	if len(stubs) > 0 {
		if err := t.markCRLDue(ctx, stubs...); err != nil {
			return err
		}
	}
	if err := t.dueUnlessEnded(ctx, holders); err != nil {
		return err
	}
	return t.refreshStatus(ctx, certificates...)
}

// dueUnlessEnded makes live holders due.
func (t *tx) dueUnlessEnded(ctx context.Context, rows []dueRow) error {
	for _, row := range rows {
		var live bool
		if err := t.QueryRow(ctx, `
			select exists (select from holder h join certificate c on c.id = h.certificate_id where h.id = $1 and h.ended_at is null
				and c.purpose = 'user' and not exists (select from cert_order where certificate_id = c.id and holder_id = h.id and live))`, row.id).Scan(&live); err != nil {
			return err
		}
		if !live {
			continue
		}
		if err := t.due(ctx, row); err != nil {
			return err
		}
	}
	return nil
}
