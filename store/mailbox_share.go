package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// addRecipients adds to the orders for shared keys whom the maker seals them for:
// the other active members, as the fleet key knows them. It decides, too, whether
// the key before may be used again: only if the maker has it, and nobody has left
// since it was ordered.
func (t *tx) addRecipients(ctx context.Context, boxes map[certctl.ID]*certctl.MailboxWork) error {
	for _, box := range boxes {
		for i := range box.Keys {
			k := &box.Keys[i]
			if k.Order.HolderKind != certctl.HolderShared {
				continue
			}
			if err := t.QueryRow(ctx, `
				select (select k.spki from holder h join version v on v.id = h.version_id join cert_order o on o.id = v.order_id
					join member_key k on k.holder_id = h.id and k.agent_id = $2 and k.spki = $3
					where h.id = $1 and k.held_at is not null and o.created_at > coalesce(h.rekey_at, '-infinity'))`, k.Order.Holder, box.Agent.ID, k.Reuse).Scan(&k.Reuse); err != nil {
				return err
			}
			var err error
			if k.Recipients, err = t.recipients(ctx, k.Order.Holder, box.Agent.ID, certctl.Digest{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// recipients returns the agent statements of members without a key, the longest
// waiting first; with the absent key, of all. What stands in the row is passed on
// as it is: whoever seals decides whether the fleet key made it for this agent.
func (t *tx) recipients(ctx context.Context, holder, but certctl.ID, key certctl.Digest) ([]certctl.Statement, error) {
	rows, err := t.Query(ctx, `
		select a.id, a.statement from holder_member m join agent a on a.id = m.agent_id
		where m.holder_id = $1 and m.left_at is null and m.agent_id <> $2 and a.state = 'active'
			and ($3::bytea is null or m.refused = '' and not exists (
				select from member_key k where k.holder_id = m.holder_id and k.agent_id = m.agent_id and k.spki = $3))
		order by m.joined_at, m.agent_id limit $4`, holder, but, key, certctl.MaxRecipients)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s certctl.Statement, err error) {
		var id certctl.ID
		err = row.Scan(&id, &s)
		s.Agent = id // as a true one says already
		return s, err
	})
}

// sendShares puts the shared keys into the boxes that their agents should seal for
// others. A command keeps its number until it is answered.
func (t *tx) sendShares(ctx context.Context, items []openItem, boxes map[certctl.ID]*certctl.MailboxWork) error {
	ids, byID := idsOf(items, dueShare)
	if len(ids) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `
		update holder h set share_number = case when h.share_number = 0 then $2 else h.share_number end
		from version v, certificate c
		where h.id = any($1) and h.kind = 'shared' and h.ended_at is null and v.id = h.version_id and c.id = h.certificate_id
		returning h.id, c.name, v.spki, h.share_number`, ids, t.now.UnixMicro())
	if err != nil {
		return err
	}
	work, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s certctl.ShareWork, err error) {
		return s, row.Scan(&s.Holder, &s.Certificate, &s.SPKI, &s.Number)
	})
	if err != nil {
		return err
	}
	for _, s := range work {
		agent := byID[s.Holder].agent
		if s.Recipients, err = t.recipients(ctx, s.Holder, agent, s.SPKI); err != nil {
			return err
		}
		if len(s.Recipients) > 0 {
			boxes[agent].Shares = append(boxes[agent].Shares, s)
		}
	}
	return nil
}

// addShared adds the keys that other members have sealed to the deployments that
// are about to be sent. Where a member has the key, the ciphertext is empty.
func (t *tx) addShared(ctx context.Context, open []*sending) error {
	byID := map[certctl.ID]*sending{}
	for _, s := range open {
		if s.shared {
			byID[s.work.Deployment.ID] = s
		}
	}
	if len(byID) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `
		select d.id, k.holder_id, k.sealed, k.number
		from deployment d join binding b on b.id = d.binding_id join version v on v.id = d.version_id
		join member_key k on k.holder_id = b.holder_id and k.agent_id = d.agent_id and k.spki = v.spki
		where d.id = any($1)`, sortedIDs(byID))
	if err != nil {
		return err
	}
	var id certctl.ID
	var key certctl.SharedKey
	_, err = pgx.ForEachRow(rows, []any{&id, &key.Holder, &key.Ciphertext, &key.Number}, func() error {
		byID[id].work.Shared = key
		return nil
	})
	return err
}
