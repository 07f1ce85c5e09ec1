package store

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// unheardAgain is when a holder is looked at again whose agent has not said yet,
// after a restore, what it has.
const unheardAgain = time.Minute

// unheard returns those of the holders whose agents have not been heard since a
// restore: they may have a newer leaf than the one that is known. Of a shared key
// one member is enough, since all are sent the newest leaf.
func (t *tx) unheard(ctx context.Context, holders []certctl.ID) (map[certctl.ID]bool, error) {
	rows, err := t.Query(ctx, `
		select h.id from recovery r join recovery_agent x on x.recovery_id = r.id join holder h on h.agent_id = x.agent_id
		where r.finished_at is null and x.heard_at is null and h.id = any($1)
		union
		select m.holder_id from recovery r join recovery_agent x on x.recovery_id = r.id
		join holder_member m on m.agent_id = x.agent_id and m.left_at is null
		where r.finished_at is null and m.holder_id = any($1) group by m.holder_id having count(x.heard_at) = 0`, holders)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	unheard := make(map[certctl.ID]bool, len(ids))
	for _, id := range ids {
		unheard[id] = true
	}
	return unheard, err
}

// unknownVersion is one that an agent says it has and that is not known here.
type unknownVersion struct{ agent, binding, version certctl.ID }

// askForUnknown asks agents, while the installation recovers, for the leaves
// that they have and that are not known here, and takes everything off their
// answers that is about the certificates of such leaves: what is to be installed
// there may be older. An agent of which all is known has been heard. One that was
// not when the recovery was ended by hand is asked when it comes back.
func (t *tx) askForUnknown(ctx context.Context, asking map[certctl.ID]*contact, boxes map[certctl.ID]*certctl.MailboxWork, items []openItem) ([]openItem, error) {
	recovery, asking, err := t.concerned(ctx, asking)
	if err != nil || len(asking) == 0 {
		return items, err
	}
	unknown, err := t.unknownVersions(ctx, recovery, asking)
	if err != nil {
		return nil, err
	}
	held, silent := map[certctl.ID][]certctl.ID{}, map[certctl.ID]bool{}
	var agents, bindings, versions []certctl.ID
	for _, u := range unknown {
		silent[u.agent] = true
		held[u.agent] = append(held[u.agent], u.binding)
		agents, bindings, versions = append(agents, u.agent), append(bindings, u.binding), append(versions, u.version)
		if box := boxes[u.agent]; len(box.Inventory) < certctl.MaxInventory {
			box.Inventory = append(box.Inventory, u.binding)
		}
	}
	if err := t.put(ctx, `
		insert into recovery_version (recovery_id, agent_id, binding_id, version_id)
		select $1, agent, binding, version from unnest($2::uuid[], $3::uuid[], $4::uuid[]) as u(agent, binding, version)
		on conflict do nothing`, recovery, some(agents), some(bindings), some(versions)); err != nil {
		return nil, err
	}
	var heard []certctl.ID
	for id := range asking {
		if !silent[id] {
			heard = append(heard, id)
		}
	}
	if err := t.put(ctx, `
		update recovery_agent set heard_at = now() where recovery_id = $1 and agent_id = any($2) and heard_at is null`, recovery, some(heard)); err != nil {
		return nil, err
	}
	return t.withoutHeld(ctx, items, held)
}

// concerned returns the newest recovery, and those of the asking agents that it
// still concerns.
func (t *tx) concerned(ctx context.Context, asking map[certctl.ID]*contact) (recovery certctl.ID, late map[certctl.ID]*contact, err error) {
	rows, err := t.Query(ctx, `
		select r.id, r.finished_at is null, array(
			select agent_id from recovery_agent where recovery_id = r.id and heard_at is null and agent_id = any($1))
		from recovery r order by began_at desc limit 1`, sortedIDs(asking))
	if err != nil {
		return recovery, nil, err
	}
	var unheard []certctl.ID
	var open bool
	if _, err := pgx.ForEachRow(rows, []any{&recovery, &open, &unheard}, func() error { return nil }); err != nil || open {
		return recovery, asking, err
	}
	late = make(map[certctl.ID]*contact, len(unheard))
	for _, id := range unheard {
		late[id] = asking[id]
	}
	return recovery, late, nil
}

// unknownVersions returns what the asking agents say they have, is not known
// here, and was not refused before.
func (t *tx) unknownVersions(ctx context.Context, recovery certctl.ID, asking map[certctl.ID]*contact) ([]unknownVersion, error) {
	var agents, bindings, versions []certctl.ID
	for _, id := range sortedIDs(asking) {
		for _, i := range asking[id].last.Installed {
			if !i.Version.IsZero() {
				agents, bindings, versions = append(agents, id), append(bindings, i.Binding), append(versions, i.Version)
			}
		}
	}
	if len(agents) == 0 {
		return nil, nil
	}
	rows, err := t.Query(ctx, `
		select told.agent, told.binding, told.version from unnest($2::uuid[], $3::uuid[], $4::uuid[]) as told(agent, binding, version)
		where not exists (select from version where id = told.version) and not exists (
			select from recovery_version where recovery_id = $1 and agent_id = told.agent and binding_id = told.binding
				and version_id = told.version and outcome <> '')
		order by 1, 2`, recovery, agents, bindings, versions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (u unknownVersion, err error) {
		return u, row.Scan(&u.agent, &u.binding, &u.version)
	})
}

// withoutHeld leaves out what is about the certificates of held bindings.
func (t *tx) withoutHeld(ctx context.Context, items []openItem, held map[certctl.ID][]certctl.ID) ([]openItem, error) {
	for agent, bindings := range held {
		var certificates []certctl.ID
		if err := t.QueryRow(ctx, `select array(select distinct certificate_id from binding where id = any($1))`, bindings).Scan(&certificates); err != nil {
			return nil, err
		}
		items = slices.DeleteFunc(items, func(i openItem) bool { return i.agent == agent && slices.Contains(certificates, i.certificate) })
	}
	return items, nil
}
