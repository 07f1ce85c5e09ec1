package store

import (
	"context"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// reportedShare is a shared holder whose key was to be sealed for members.
type reportedShare struct {
	holder, certificate certctl.ID
	team, name          string // of the certificate
	spki                certctl.Digest
	number              int64 // of the newest command
	members             []certctl.ID
}

// sealedKeys are what one member has sealed for others of its holder.
type sealedKeys struct {
	certctl.SharedReport
	by          certctl.ID
	made        bool // it has made the key
	number      int64
	certificate certctl.ID
	team, name  string // of the certificate
	refused     string // why it did not
}

func (b *reportBatch) readShares(ctx context.Context, ids []certctl.ID) error {
	b.shares = map[certctl.ID]*reportedShare{}
	rows, err := b.Query(ctx, `
		select h.id, h.certificate_id, team.name, c.name, v.spki, h.share_number,
			array(select agent_id from member_key where holder_id = h.id and spki = v.spki and held_at is not null)
		from holder h join version v on v.id = h.version_id join certificate c on c.id = h.certificate_id join team on team.id = c.team_id
		where h.id = any($1) and h.kind = 'shared' and h.ended_at is null order by h.id for no key update of h`, ids)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*reportedShare, error) {
		x := &reportedShare{}
		return x, row.Scan(&x.holder, &x.certificate, &x.team, &x.name, &x.spki, &x.number, &x.members)
	})
	for _, x := range all {
		b.shares[x.holder] = x
	}
	return err
}

// checkSealed refuses what no member of ours says.
func checkSealed(r *certctl.SharedReport) error {
	if len(r.Sealed) > certctl.MaxRecipients || len(r.Refused) > certctl.MaxRecipients {
		return certctl.Errorf(certctl.Denied, "the key was sealed for more members than it was asked for")
	}
	for _, sealed := range r.Sealed {
		if len(sealed.Ciphertext) == 0 || len(sealed.Ciphertext) > certctl.MaxSealedKey {
			return certctl.Errorf(certctl.Denied, "a sealed key has 1 to %d bytes", certctl.MaxSealedKey)
		}
	}
	return nil
}

// noteSealed takes what came with the request that was just taken: the new key,
// sealed for the other members of a shared holder.
func (b *reportBatch) noteSealed(s certctl.Statement, r certctl.AgentReport) error {
	o := b.orders[s.Object]
	if len(o.members) == 0 || o.accepted != r.CSR {
		return nil // of its own, or recorded before
	}
	sealed := sealedKeys{by: s.Agent, made: true, number: s.Number, certificate: o.certificate, team: o.team, name: o.name}
	if r.Shared != nil {
		if err := checkSealed(r.Shared); err != nil {
			o.accepted, o.csr, o.state = nil, nil, certctl.OrderAwaitingCSR
			return err
		}
		sealed.SharedReport = *r.Shared
	}
	sealed.Holder, sealed.SPKI = o.holder, r.CSR.SPKI
	b.sealed = append(b.sealed, sealed)
	return nil
}

// takeShared takes a key that a member has sealed for others, as it was asked.
func (b *reportBatch) takeShared(s certctl.Statement, r *certctl.SharedReport) error {
	x := b.shares[s.Object]
	switch {
	case x == nil || r.Holder != s.Object || !slices.Contains(x.members, s.Agent):
		return notYours("key to share")
	case s.Number == 0 || s.Number != x.number || r.SPKI != x.spki:
		return over("command")
	}
	if err := checkSealed(r); err != nil {
		return err
	}
	x.number = 0
	b.sealed = append(b.sealed, sealedKeys{SharedReport: *r, by: s.Agent, number: s.Number, certificate: x.certificate, team: x.team, name: x.name})
	return nil
}

// refuseShare has another member asked. One that does not have the key any more
// is not counted on.
func (b *reportBatch) refuseShare(s certctl.Statement, refusal *certctl.Refusal) error {
	x := b.shares[s.Object]
	switch {
	case !slices.Contains(x.members, s.Agent):
		return notYours("key to share")
	case s.Number == 0 || s.Number != x.number:
		return over("command")
	}
	x.number = 0
	b.sealed = append(b.sealed, sealedKeys{SharedReport: certctl.SharedReport{Holder: x.holder, SPKI: x.spki}, by: s.Agent,
		certificate: x.certificate, team: x.team, name: x.name, refused: refusal.Code})
	return nil
}

// writeShared stores who has which shared key now, by the keys and receipts that
// were taken, and what follows.
func (b *reportBatch) writeShared(ctx context.Context) error {
	touched := map[certctl.ID]bool{}
	for _, sealed := range b.sealed {
		if err := b.storeSealed(ctx, sealed); err != nil {
			return err
		}
		touched[sealed.Holder], b.changed[sealed.certificate] = true, true
	}
	if err := b.keysInPlace(ctx, touched); err != nil {
		return err
	}
	return b.settleKeys(ctx, sortedIDs(touched)...)
}

// storeSealed stores the ciphertexts for live members, and that whoever sealed
// them has the key, or says that it has not.
func (b *reportBatch) storeSealed(ctx context.Context, s sealedKeys) error {
	if s.refused != "" {
		_, err := b.Exec(ctx, `delete from member_key where holder_id = $1 and agent_id = $2 and spki = $3`, s.Holder, s.by, s.SPKI)
		return err
	}
	if s.made {
		if _, err := b.Exec(ctx, `
			insert into member_key (holder_id, agent_id, spki, held_at) values ($1, $2, $3, now())
			on conflict (holder_id, agent_id, spki) do update set held_at = coalesce(member_key.held_at, now()), sealed = null`,
			s.Holder, s.by, s.SPKI); err != nil {
			return err
		}
	} else if _, err := b.Exec(ctx, `update holder set share_number = 0 where id = $1`, s.Holder); err != nil {
		return err
	}
	agents, texts := make([]certctl.ID, len(s.Sealed)), make([][]byte, len(s.Sealed))
	for i, sealed := range s.Sealed {
		agents[i], texts[i] = sealed.Agent, sealed.Ciphertext
	}
	if _, err := b.Exec(ctx, `
		with given as (
			select distinct on (m.agent_id) m.agent_id, new.sealed from unnest($4::uuid[], $5::bytea[]) as new(agent, sealed)
			join holder_member m on m.holder_id = $1 and m.agent_id = new.agent and m.left_at is null),
		welcome as (update holder_member m set refused = '' from given where m.holder_id = $1 and m.agent_id = given.agent_id and m.refused <> '')
		insert into member_key (holder_id, agent_id, spki, sealed, number) select $1, agent_id, $2, sealed, $3 from given
		on conflict (holder_id, agent_id, spki) do update set sealed = excluded.sealed, number = excluded.number where member_key.held_at is null`,
		s.Holder, s.SPKI, s.number, agents, texts); err != nil {
		return err
	}
	return b.storeRefused(ctx, s)
}

// storeRefused records for whom a key was not sealed, and says so.
func (b *reportBatch) storeRefused(ctx context.Context, s sealedKeys) error {
	for _, r := range s.Refused {
		code := certctl.Clip(r.Code, 40)
		tag, err := b.Exec(ctx, `update holder_member set refused = $3 where holder_id = $1 and agent_id = $2 and left_at is null`,
			s.Holder, r.Agent, code)
		if err != nil {
			return err
		}
		if tag.RowsAffected() > 0 {
			b.eventOutcome(s.team, certctl.AggregateCertificate, s.certificate, certctl.EventKeyRefused, certctl.OutcomeDenied, map[string]any{
				"certificate": s.certificate, "name": s.name, "holder": s.Holder, "agent": r.Agent, "by": s.by, "code": code,
			})
		}
	}
	return nil
}

// keysInPlace records what receipts say about shared keys: a member that has
// installed a leaf needs no ciphertext any more, and one that says that the key is
// missing does not have it.
func (b *reportBatch) keysInPlace(ctx context.Context, touched map[certctl.ID]bool) error {
	var have, lack []certctl.ID
	for _, id := range sortedIDs(b.deployments) {
		switch d := b.deployments[id]; {
		case d.receipt == nil:
		case d.State.Final():
			have = append(have, id)
		case d.Reason == keyMissing:
			lack = append(lack, id)
		}
	}
	if len(have)+len(lack) == 0 {
		return nil
	}
	rows, err := b.Query(ctx, `
		with said as (
			select distinct h.id as holder, m.agent_id, v.spki, d.id = any($1) as has
			from deployment d join binding b on b.id = d.binding_id join holder h on h.id = b.holder_id join version v on v.id = d.version_id
			join holder_member m on m.holder_id = h.id and m.agent_id = d.agent_id and m.left_at is null
			where (d.id = any($1) or d.id = any($2)) and h.kind = 'shared' and h.sealed_key is null),
		gone as (
			delete from member_key k using said where k.holder_id = said.holder and k.agent_id = said.agent_id and k.spki = said.spki
				and not said.has and not exists (select from said other where other.agent_id = said.agent_id and other.spki = said.spki and other.has)),
		kept as (
			insert into member_key (holder_id, agent_id, spki, held_at) select holder, agent_id, spki, now() from said where has
			on conflict (holder_id, agent_id, spki) do update set held_at = coalesce(member_key.held_at, now()), sealed = null)
		select distinct holder from said`, some(have), some(lack))
	if err != nil {
		return err
	}
	holders, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	for _, holder := range holders {
		touched[holder] = true
	}
	return err
}
