package store

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// The members of a shared holder are the agents of its certificate's bindings.
// Membership changes in the transaction that binds or unbinds.

// makerOrder begins the order in which members are asked: an agent a with the
// contact c that is on line goes before the others.
const makerOrder = `coalesce(c.at > now() - $2::interval, false) desc`

// sharedHolder returns the shared holder of a held certificate, made or begun
// anew if it has none. A holder has a key only once it gets a version.
func (t *tx) sharedHolder(ctx context.Context, h *held) (heldHolder, error) {
	for _, holder := range h.holders {
		if holder.kind == certctl.HolderShared {
			return holder, nil
		}
	}
	holder := heldHolder{kind: certctl.HolderShared}
	err := t.QueryRow(ctx, `
		insert into holder (id, certificate_id, kind) values ($1, $2, 'shared')
		on conflict (certificate_id, kind, agent_id) do update set ended_at = null, version_id = null, kept_revision = 0, share_number = 0
		returning id`, certctl.NewID(t.now), h.id).Scan(&holder.id)
	h.holders = append(h.holders, holder)
	return holder, err
}

// join makes agents members of shared holders. One that is a member stays one;
// one that was begins anew.
func (t *tx) join(ctx context.Context, holders, agents []certctl.ID) error {
	if len(holders) == 0 {
		return nil
	}
	err := t.put(ctx, `
		insert into holder_member as m (holder_id, agent_id) select * from unnest($1::uuid[], $2::uuid[])
		on conflict (holder_id, agent_id) do update set left_at = null, joined_at = now(), refused = '' where m.left_at is not null`,
		holders, agents)
	return err
}

// part ends the membership of those agents that have no binding of a shared
// holder any more. What they know of its keys, they know: no key that was
// ordered until now is used again.
func (t *tx) part(ctx context.Context, holder certctl.ID) error {
	rows, err := t.Query(ctx, `
		update holder_member m set left_at = now() where m.holder_id = $1 and m.left_at is null
			and not exists (select from binding b join target on target.id = b.target_id
				where b.holder_id = $1 and b.unbound_at is null and target.agent_id = m.agent_id)
		returning m.agent_id`, holder)
	if err != nil {
		return err
	}
	gone, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	if err != nil || len(gone) == 0 {
		return err
	}
	if err := t.forgetMember(ctx, holder, gone...); err != nil {
		return err
	}
	var orders []certctl.ID
	if err := t.QueryRow(ctx, `
		select array(select id from cert_order where holder_id = $1 and state = 'awaiting_csr' and maker_id = any($2)
			and certificate_id = (select certificate_id from holder where id = $1))`, holder, gone).Scan(&orders); err != nil {
		return err
	}
	if err := t.nameMakers(ctx, orders); err != nil {
		return err
	}
	return t.share(ctx, false, holder)
}

// forgetMember takes away what is known of the keys of members that have left, or
// whose machine is another one now.
func (t *tx) forgetMember(ctx context.Context, holder certctl.ID, agents ...certctl.ID) error {
	if err := t.put(ctx, `delete from member_key where holder_id = $1 and agent_id = any($2)`, holder, agents); err != nil {
		return err
	}
	err := t.put(ctx, `update holder set rekey_at = now() where id = $1`, holder)
	return err
}

// memberReplaced begins a membership anew whose agent is another machine now: the
// key that the one before had is sealed for it again, and an order for a key that
// only that one had is made anew.
func (t *tx) memberReplaced(ctx context.Context, h *held, agent certctl.ID, live []liveOrder) error {
	holder, err := t.sharedHolder(ctx, h)
	if err != nil {
		return err
	}
	if err := t.forgetMember(ctx, holder.id, agent); err != nil {
		return err
	}
	if err := t.put(ctx, `update holder_member set refused = '', joined_at = now() where holder_id = $1 and agent_id = $2`, holder.id, agent); err != nil {
		return err
	}
	var lost, waiting []certctl.ID
	if err := t.QueryRow(ctx, `
		select array(select id from cert_order o where o.certificate_id = $1 and o.live and o.maker_id = $2 and o.csr is not null
				and not exists (select from member_key where holder_id = o.holder_id and spki = o.csr_spki)),
			array(select id from cert_order o where o.certificate_id = $1 and o.maker_id = $2 and o.state = 'awaiting_csr')`,
		h.id, agent).Scan(&lost, &waiting); err != nil {
		return err
	}
	gone := slices.DeleteFunc(live, func(o liveOrder) bool { return !slices.Contains(lost, o.id) })
	if err := t.cancelOrders(ctx, h.team, "the agent was replaced", gone); err != nil {
		return err
	}
	if len(gone) > 0 {
		if _, err := t.newOrders(ctx, []orderSpec{{Certificate: h.id, Holder: holder.id, Origin: certctl.OriginSystem,
			Urgency: certctl.UrgencyNow, Reason: "agent_replaced"}}); err != nil {
			return err
		}
	}
	if err := t.nameMakers(ctx, waiting); err != nil {
		return err
	}
	return t.share(ctx, false, holder.id)
}

// nameMakers has shared keys made by another member where the one that was asked
// does not answer: it has not fetched the command since it was named, it has had
// it for as long as an agent may be silent, or it has refused. A member that is
// on line goes before the others. The number of the command begins anew, and
// only the answer of whoever was named last counts.
func (t *tx) nameMakers(ctx context.Context, ids []certctl.ID) error {
	if len(ids) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `
		select o.id, o.holder_id, o.urgency, maker.agent_id, o.maker_id is distinct from maker.agent_id,
			o.wait <> 'backoff' and o.number > $3 and exists (select from holder_member
				where holder_id = o.holder_id and agent_id = o.maker_id and left_at is null), o.maker_id
		from cert_order o join holder h on h.id = o.holder_id left join lateral (
			select m.agent_id from holder_member m join agent a on a.id = m.agent_id left join agent_contact c on c.agent_id = a.id
			where m.holder_id = h.id and m.left_at is null and a.state = 'active'
			order by `+makerOrder+`, m.agent_id is distinct from o.maker_id desc, c.at desc nulls last, m.agent_id limit 1) maker on true
		where o.id = any($1) and o.state = 'awaiting_csr' and h.kind = 'shared'`,
		ids, certctl.OfflineAfter, t.now.Add(-certctl.OfflineAfter).UnixMicro())
	if err != nil {
		return err
	}
	var order certctl.Order
	var maker, before certctl.ID
	var other, working bool
	var named, makers []certctl.ID
	var again []dueRow
	agents := map[certctl.ID]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&order.ID, &order.Holder, &order.Urgency, &maker, &other, &working, &before}, func() error {
		if working {
			maker = before
		} else if other {
			named, makers = append(named, order.ID), append(makers, maker)
		}
		order.State = certctl.OrderAwaitingCSR
		again = append(again, orderDue(order, orderHolder{kind: certctl.HolderShared, agent: maker}, t.now))
		if !maker.IsZero() {
			agents[maker] = true
		}
		return nil
	}); err != nil {
		return err
	}
	t.ring(agents)
	if err := t.put(ctx, `
		update cert_order set wait = 'holder_offline' where id = any($1) and state = 'awaiting_csr' and wait = 'backoff'`, ids); err != nil {
		return err
	}
	if err := t.setMakers(ctx, named, makers); err != nil {
		return err
	}
	return t.due(ctx, again...)
}

// setMakers records who is to make the keys of orders.
func (t *tx) setMakers(ctx context.Context, orders, makers []certctl.ID) error {
	if len(orders) == 0 {
		return nil
	}
	err := t.put(ctx, `
		update cert_order o set maker_id = new.maker, number = 0, updated_at = now()
		from unnest($1::uuid[], $2::uuid[]) as new(id, maker) where o.id = new.id and o.maker_id is distinct from new.maker`, orders, makers)
	return err
}

// remakeShared is what is due of orders that wait for the key of a shared holder:
// it names makers, and returns the other orders.
func (t *tx) remakeShared(ctx context.Context, ids []certctl.ID) (others []certctl.ID, err error) {
	var shared []certctl.ID
	if err := t.QueryRow(ctx, `
		select array(select o.id from cert_order o join holder h on h.id = o.holder_id
			where o.id = any($1) and o.state = 'awaiting_csr' and h.kind = 'shared')`, ids).Scan(&shared); err != nil || len(shared) == 0 {
		return ids, err
	}
	if err := t.lockCertificatesOf(ctx, `select certificate_id from cert_order where id = any($1)`, shared); err != nil {
		return nil, err
	}
	if err := t.lockOrders(ctx, shared); err != nil {
		return nil, err
	}
	if err := t.nameMakers(ctx, shared); err != nil {
		return nil, err
	}
	var certificates []certctl.ID
	if err := t.QueryRow(ctx, `select array(select distinct certificate_id from cert_order where id = any($1))`, shared).Scan(&certificates); err != nil {
		return nil, err
	}
	known := make(map[certctl.ID]bool, len(shared))
	for _, id := range shared {
		known[id] = true
	}
	for _, id := range ids {
		if !known[id] {
			others = append(others, id)
		}
	}
	return others, t.refreshStatus(ctx, certificates...)
}

// memberKeys adds to shared holders who has the key of their newest version.
func (t *tx) memberKeys(ctx context.Context, holders []certctl.Holder) error {
	byID := map[certctl.ID]*certctl.Holder{}
	for i := range holders {
		if holders[i].Kind == certctl.HolderShared {
			byID[holders[i].ID] = &holders[i]
		}
	}
	if len(byID) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `
		select m.holder_id, a.id, a.name, k.held_at, k.spki is not null, m.refused
		from holder_member m join agent a on a.id = m.agent_id join holder h on h.id = m.holder_id
		left join version v on v.id = h.version_id
		left join member_key k on k.holder_id = m.holder_id and k.agent_id = m.agent_id and k.spki = v.spki
		where m.holder_id = any($1) and m.left_at is null order by a.name, a.id`, sortedIDs(byID))
	if err != nil {
		return err
	}
	var holder certctl.ID
	var agent certctl.Ref
	var held time.Time
	var sealed bool
	var refused string
	_, err = pgx.ForEachRow(rows, []any{&holder, &agent.ID, &agent.Name, &held, &sealed, &refused}, func() error {
		h, state := byID[holder], certctl.KeyWaited
		switch {
		case !held.IsZero():
			state = certctl.KeyHeld
		case sealed:
			state = certctl.KeySent
		case refused != "":
			state = certctl.KeyRefused
		}
		h.Members, h.Keys = append(h.Members, agent), append(h.Keys, certctl.MemberKey{Agent: agent.ID, State: state})
		return nil
	})
	return err
}
