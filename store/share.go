package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// dueShare is the kind of rows that say when a shared holder's key must be looked
// after: some member waits for it. The row names the member that should seal it
// for the others (agent), and comes up as a renewal, since a new key is made when
// nobody can.
const dueShare = "share"

// keyless is the condition that the agent of a deployment d, of the version v of
// the shared holder h, neither has the key nor has been sealed it. While an
// imported key is in use, the platform has it for everybody.
const keyless = `h.kind = 'shared' and h.sealed_key is null and not exists (select from member_key k
	where k.holder_id = h.id and k.agent_id = d.agent_id and k.spki = v.spki)`

// awaitKeys lets those of the deployments wait whose agents have no key for them,
// and has the keys sealed for them.
func (t *tx) awaitKeys(ctx context.Context, deployments ...certctl.ID) error {
	if len(deployments) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `
		update deployment d set wait = $2, updated_at = now() from binding b join holder h on h.id = b.holder_id, version v
		where d.id = any($1) and b.id = d.binding_id and v.id = d.version_id and d.wait = ''
			and d.state in ('pending', 'installing', 'rolled_back', 'failed') and `+keyless+` returning d.id, h.id`,
		deployments, string(certctl.WaitKey))
	if err != nil {
		return err
	}
	var id, holder certctl.ID
	var waiting []certctl.ID
	holders := map[certctl.ID]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&id, &holder}, func() error {
		waiting, holders[holder] = append(waiting, id), true
		return nil
	}); err != nil || len(waiting) == 0 {
		return err
	}
	if err := t.put(ctx, `update due set due_at = $2 where kind = 'deployment' and id = any($1)`, waiting, t.now.Add(holdRecheck)); err != nil {
		return err
	}
	return t.share(ctx, false, keysOf(holders)...)
}

// freeKeys ends the waiting of deployments whose agents have their key now. What
// a window or a freeze would hold waits for that instead.
func (t *tx) freeKeys(ctx context.Context, holders ...certctl.ID) error {
	var free []certctl.ID
	if err := t.QueryRow(ctx, `
		select array(select d.id from binding b join holder h on h.id = b.holder_id
			join deployment d on d.binding_id = b.id and d.version_id = h.version_id join version v on v.id = d.version_id
			where b.holder_id = any($1) and b.unbound_at is null and d.wait = $2 and not (`+keyless+`) order by d.id)`,
		holders, string(certctl.WaitKey)).Scan(&free); err != nil || len(free) == 0 {
		return err
	}
	rows, err := t.Query(ctx, `update deployment set wait = '', updated_at = now() where id = any($1) returning id, agent_id`, free)
	if err != nil {
		return err
	}
	if err := t.ringFor(ctx, dueDeployment, rows); err != nil {
		return err
	}
	held, err := t.heldDeployments(ctx, free)
	if err != nil {
		return err
	}
	return t.holdBack(ctx, held)
}

// settleKeys brings what waits for keys in line with who has which.
func (t *tx) settleKeys(ctx context.Context, holders ...certctl.ID) error {
	if len(holders) == 0 {
		return nil
	}
	if err := t.freeKeys(ctx, holders...); err != nil {
		return err
	}
	return t.share(ctx, false, holders...)
}

// share has the keys of shared holders sealed for the members that lack them, by
// one that has it: on line if any is. late: whoever was asked has not answered
// within a minute; unless he has fetched the command a short while ago, another
// one is asked. Where nobody is on line it comes up again every minute, and
// certctl.HolderDue decides when there is a new key instead.
func (t *tx) share(ctx context.Context, late bool, holders ...certctl.ID) error {
	rows, err := t.Query(ctx, `
		select h.id, giver.agent_id, giver.agent_id is distinct from d.agent_id,
			v.id is not null and v.revoked_at is null and v.not_after > now() and h.ended_at is null and h.sealed_key is null
			and not exists (select from blocked_key where spki = v.spki)
			and exists (select from holder_member m join agent a on a.id = m.agent_id
				where m.holder_id = h.id and m.left_at is null and m.refused = '' and a.state = 'active'
				and not exists (select from member_key k where k.holder_id = h.id and k.agent_id = m.agent_id and k.spki = v.spki))
		from holder h left join version v on v.id = h.version_id left join due d on d.kind = 'share' and d.id = h.id
		left join lateral (
			select m.agent_id from holder_member m join agent a on a.id = m.agent_id left join agent_contact c on c.agent_id = a.id
			join member_key k on k.holder_id = h.id and k.agent_id = m.agent_id and k.spki = v.spki and k.held_at is not null
			where m.holder_id = h.id and m.left_at is null and a.state = 'active'
			order by m.agent_id = d.agent_id and (not $3 or h.share_number > $4) desc nulls last, `+makerOrder+`,
				m.agent_id is distinct from d.agent_id desc, c.at desc nulls last, m.agent_id limit 1) giver on true
		where h.id = any($1) and h.kind = 'shared' order by h.id`,
		holders, certctl.OfflineAfter, late, t.now.Add(-certctl.OfflineAfter).UnixMicro())
	if err != nil {
		return err
	}
	var holder, giver certctl.ID
	var other, wanted bool
	var again []dueRow
	var over, renamed []certctl.ID
	agents := map[certctl.ID]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&holder, &giver, &other, &wanted}, func() error {
		if !wanted {
			over = append(over, holder)
			return nil
		}
		if other {
			renamed = append(renamed, holder)
		}
		if !giver.IsZero() {
			agents[giver] = true
		} else if other || !late {
			t.hint(certctl.HintRenew, certctl.NoLane, holder) // nobody has it any more
		}
		again = append(again, dueRow{kind: dueShare, id: holder, verb: certctl.HintRenew, agent: giver,
			urgency: certctl.UrgencyNow, at: t.now.Add(agentReminder)})
		return nil
	}); err != nil {
		return err
	}
	t.ring(agents)
	if err := t.put(ctx, `update holder set share_number = 0 where id = any($1) and share_number <> 0`, append(renamed, over...)); err != nil {
		return err
	}
	if err := t.done(ctx, dueShare, over...); err != nil {
		return err
	}
	return t.due(ctx, again...)
}

// shareOf has the keys looked after of the shared holders that an agent is a
// member of.
func (t *tx) shareOf(ctx context.Context, agent certctl.ID) error {
	var holders []certctl.ID
	if err := t.QueryRow(ctx, `
		select array(select holder_id from holder_member where agent_id = $1 and left_at is null order by holder_id)`, agent).Scan(&holders); err != nil || len(holders) == 0 {
		return err
	}
	return t.share(ctx, false, holders...)
}

// forgetKeys erases what is recorded of keys of shared holders that neither a live
// order nor the newest version has, nor the one before it.
func (t *tx) forgetKeys(ctx context.Context, holders ...certctl.ID) error {
	if len(holders) == 0 {
		return nil
	}
	err := t.put(ctx, `
		delete from member_key k using holder h left join version v on v.id = h.version_id left join version old on old.id = v.replaces
		where k.holder_id = any($1) and h.id = k.holder_id and k.spki is distinct from v.spki and k.spki is distinct from old.spki
			and not exists (select from cert_order o where o.certificate_id = h.certificate_id and o.holder_id = h.id and o.live and o.csr_spki = k.spki)`,
		holders)
	return err
}

// keysIssued looks after shared keys that have their leaf now.
func (t *tx) keysIssued(ctx context.Context, issued []*finishing) error {
	var holders []certctl.ID
	for _, f := range issued {
		if f.order.HolderKind == certctl.HolderShared && !f.ended {
			holders = append(holders, f.order.Holder)
		}
	}
	if len(holders) == 0 {
		return nil
	}
	if err := t.forgetKeys(ctx, holders...); err != nil {
		return err
	}
	return t.share(ctx, false, holders...)
}

// keylessVersions are those versions whose shared key no member has.
func (t *tx) keylessVersions(ctx context.Context, versions []certctl.ID) (keyless []certctl.ID, err error) {
	err = t.QueryRow(ctx, `
		select array(select v.id from version v join holder h on h.id = v.holder_id
			where v.id = any($1) and h.kind = 'shared' and h.sealed_key is null and not exists (
				select from member_key where holder_id = h.id and spki = v.spki and held_at is not null))`, versions).Scan(&keyless)
	return keyless, err
}
