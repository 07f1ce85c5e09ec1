package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

const (
	// settling is how old a record must be before an agent's own word on what it
	// has counts against it: a question may have been asked before a report was
	// recorded, and arrive after it.
	settling = 2 * time.Minute

	// maxCommands bounds one answer in number.
	maxCommands = 64

	// maxAnswer bounds one answer in bytes, as encoded. The bus carries 256 KiB,
	// of which the trust document and the targets take some.
	maxAnswer = 160 << 10

	// recipientSize is what an agent statement takes, encoded twice.
	recipientSize = 4 << 10

	// toldInstalled is how many bindings an agent tells of at most. One that tells
	// of so many may have more, and what it does not name may be there.
	toldInstalled = 1000
)

// openItem is something that an agent should be told.
type openItem struct {
	agent, id, certificate certctl.ID
	kind                   string     // dueOrder, dueDeployment, dueBinding, dueShare or dueErasure
	version                certctl.ID // of a deployment
	recipients             int        // of a shared key
	lost                   bool       // a deployment that was verified, and that the node has lost
	drift                  string     // how its files differ from what was installed
}

// openWork returns what the asking agents should do, the most urgent first, a
// little more than one answer holds.
func (t *tx) openWork(ctx context.Context, asking map[certctl.ID]*contact) ([]openItem, error) {
	if err := t.reopenForgets(ctx, asking); err != nil {
		return nil, err
	}
	lost, err := t.lostDeployments(ctx, asking)
	if err != nil {
		return nil, err
	}
	rows, err := t.Query(ctx, `
		select agent_id, kind, id, certificate_id, version_id, recipients from (
			select due.agent_id, due.kind, due.id, coalesce(o.certificate_id, d.certificate_id, b.certificate_id, h.certificate_id) as certificate_id,
				d.version_id, case when due.kind in ('order', 'share') then (select count(*) from holder_member
					where holder_id = coalesce(o.holder_id, h.id) and left_at is null) else 0 end as recipients,
				row_number() over (partition by due.agent_id order by due.urgency, due.id) as place
			from due
			left join cert_order o on due.kind = 'order' and o.id = due.id
			left join deployment d on due.kind = 'deployment' and d.id = due.id
			left join binding b on due.kind = 'binding' and b.id = due.id
			left join key_erasure e on due.kind = 'erasure' and e.id = due.id
			left join holder h on due.kind = 'share' and h.id = due.id
			left join certificate c on c.id = coalesce(o.certificate_id, d.certificate_id, h.certificate_id)
			where due.agent_id = any($1) and c.paused is not true and (o.state = 'awaiting_csr' and o.wait <> 'backoff'
				or d.state in ('pending', 'installing', 'rolled_back', 'failed') and d.wait = ''
				or b.unbound_at is not null and b.forgotten_at is null and b.wait = '' or h.ended_at is null and h.id is not null
				or `+erasable+`)) open
		where place <= $2 order by agent_id, place`, sortedIDs(asking), maxCommands+1)
	if err != nil {
		return nil, err
	}
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i openItem, err error) {
		return i, row.Scan(&i.agent, &i.kind, &i.id, &i.certificate, &i.version, &i.recipients)
	})
	return append(items, lost...), err
}

// lostDeployments returns the deployments that are recorded as done while the
// agent says that their bindings have another version, or none, or that
// somebody has changed the files and the policy says to repair that.
func (t *tx) lostDeployments(ctx context.Context, asking map[certctl.ID]*contact) ([]openItem, error) {
	rows, err := t.Query(ctx, `
		select target.agent_id, d.id, d.certificate_id, d.version_id, b.id, d.reason
		from target join binding b on b.target_id = target.id join holder h on h.id = b.holder_id
		join deployment d on d.binding_id = b.id and d.version_id = h.version_id
		where target.agent_id = any($1) and b.unbound_at is null and d.state in ('verified', 'installed') and d.updated_at < $2
		order by d.id`, sortedIDs(asking), t.now.Add(-settling))
	if err != nil {
		return nil, err
	}
	installed := make(map[certctl.ID]map[certctl.ID]certctl.Installed, len(asking))
	for id, c := range asking {
		installed[id] = make(map[certctl.ID]certctl.Installed, len(c.last.Installed))
		for _, i := range c.last.Installed {
			installed[id][i.Binding] = i
		}
	}
	var lost, drifted []openItem
	var mended []certctl.ID
	item, binding, reason := openItem{kind: dueDeployment, lost: true}, certctl.NoID, ""
	_, err = pgx.ForEachRow(rows, []any{&item.agent, &item.id, &item.certificate, &item.version, &binding, &reason}, func() error {
		there, told := installed[item.agent][binding]
		switch {
		case !told && len(installed[item.agent]) >= toldInstalled:
		case there.Version != item.version:
			lost = append(lost, item)
		case there.Drift != "":
			item.drift = there.Drift
			drifted = append(drifted, item)
		case reason == codeDrift:
			mended = append(mended, item.id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	repair, err := t.noteDrift(ctx, drifted, mended)
	return append(lost, repair...), err
}

// reopenForgets makes bindings due that are recorded as forgotten while their
// agent still has them.
func (t *tx) reopenForgets(ctx context.Context, asking map[certctl.ID]*contact) error {
	var bindings, agents []certctl.ID
	for id, c := range asking {
		for _, i := range c.last.Installed {
			bindings, agents = append(bindings, i.Binding), append(agents, id)
		}
	}
	if len(bindings) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `
		update binding b set forgotten_at = null, wait = ''
		from unnest($1::uuid[], $2::uuid[]) as told(id, agent), target
		where b.id = told.id and target.id = b.target_id and target.agent_id = told.agent
			and b.unbound_at is not null and b.forgotten_at < $3
		returning b.id, target.agent_id`, bindings, agents, t.now.Add(-settling))
	if err != nil {
		return err
	}
	return t.ringFor(ctx, dueBinding, rows)
}

// versionsToSend reads the versions that the items are about.
func (t *tx) versionsToSend(ctx context.Context, items []openItem) (map[certctl.ID]certctl.Version, error) {
	ids := map[certctl.ID]bool{}
	for _, item := range items {
		if item.kind == dueDeployment {
			ids[item.version] = true
		}
	}
	all, err := t.versions(ctx, keysOf(ids))
	versions := make(map[certctl.ID]certctl.Version, len(all))
	for _, v := range all {
		versions[v.ID] = v
	}
	return versions, err
}

// fitting keeps what goes into one answer to each agent besides the bytes that are
// used, at least one item, and notes where something is left for the next one.
func fitting(items []openItem, versions map[certctl.ID]certctl.Version, boxes map[certctl.ID]*certctl.MailboxWork, used map[certctl.ID]int) []openItem {
	count, size := map[certctl.ID]int{}, used
	var fit []openItem
	for _, item := range items {
		bytes := encodedSize(item, versions)
		if count[item.agent] == maxCommands || count[item.agent] > 0 && size[item.agent]+bytes > maxAnswer {
			boxes[item.agent].More = true
			continue
		}
		count[item.agent]++
		size[item.agent] += bytes
		fit = append(fit, item)
	}
	return fit
}

// encodedSize estimates what an item takes in an answer, generously: DER is
// encoded in base64 twice, and a key that is sealed to the node comes with it.
func encodedSize(item openItem, versions map[certctl.ID]certctl.Version) int {
	size := 4 << 10 // names, ids, signature, a share of the target
	size += min(item.recipients, certctl.MaxRecipients) * recipientSize
	if v, ok := versions[item.version]; ok {
		der := 4<<10 + len(v.Leaf)
		for _, c := range v.Chain {
			der += len(c)
		}
		size += der * 16 / 9
	}
	return size
}

func certificatesOf(items []openItem) []certctl.ID {
	set := make(map[certctl.ID]bool, len(items))
	for _, item := range items {
		set[item.certificate] = true
	}
	return keysOf(set)
}
