package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// dueErasure is the kind of a compromised key that its agent should erase.
const dueErasure = "erasure"

// erasureReminder is how often an agent is reminded of a key that is still in
// service, or that it was told to erase: what matters rings it by itself.
const erasureReminder = "15 minutes"

// eraseKeys asks every agent that has a key of the versions to erase it: those
// whose holder it is, and those onto which a leaf for it was brought.
func (t *tx) eraseKeys(ctx context.Context, versions []revocable) error {
	spkis := make([]certctl.Digest, len(versions))
	for i, v := range versions {
		spkis[i] = v.spki
	}
	rows, err := t.Query(ctx, `
		select distinct a.id, a.name, team.name, k.spki
		from (
			select v.spki, h.agent_id from version v join holder h on h.id = v.holder_id where v.spki = any($1)
			union select v.spki, m.agent_id from version v join holder_member m on m.holder_id = v.holder_id where v.spki = any($1)
			union select v.spki, d.agent_id from version v join deployment d on d.version_id = v.id where v.spki = any($1)
				and (d.number > 0 or d.verified_at is not null)
		) k join agent a on a.id = k.agent_id join team on team.id = a.team_id
		where a.state <> 'retired' and not exists (select from key_erasure where agent_id = a.id and spki = k.spki)
		order by a.id, k.spki`, spkis)
	if err != nil {
		return err
	}
	var agent certctl.Ref
	var team string
	var spki certctl.Digest
	var ids, agents []certctl.ID
	var keys []certctl.Digest
	rung := map[certctl.ID]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&agent.ID, &agent.Name, &team, &spki}, func() error {
		id := certctl.NewID(t.now).WithOrder(len(ids))
		ids, agents, keys, rung[agent.ID] = append(ids, id), append(agents, agent.ID), append(keys, spki), true
		t.event(team, certctl.AggregateAgent, agent.ID, certctl.EventKeyErasureRequested, map[string]any{
			"agent": agent.ID, "name": agent.Name, "erasure": id, "spki": spki,
		})
		return nil
	}); err != nil || len(ids) == 0 {
		return err
	}
	if err := t.put(ctx, `
		insert into key_erasure (id, agent_id, spki) select * from unnest($1::uuid[], $2::uuid[], $3::bytea[])`, ids, agents, keys); err != nil {
		return err
	}
	due := make([]dueRow, len(ids))
	for i, id := range ids {
		due[i] = dueRow{kind: dueErasure, id: id, verb: certctl.HintBell, agent: agents[i], urgency: certctl.UrgencyNow, at: t.now.Add(agentReminder)}
	}
	t.ring(rung)
	return t.due(ctx, due...)
}

// erasable says, of erasure e, that no place on its node needs the key: none
// serves it as far as is known, and none is being given a leaf for it.
const erasable = `e.erased_at is null and e.wait = '' and not exists (
	select from deployment d join version v on v.id = d.version_id join binding b on b.id = d.binding_id
	where d.agent_id = e.agent_id and v.spki = e.spki and b.unbound_at is null
		and (d.state in ('pending', 'installing', 'rolled_back', 'failed')
			or d.state in ('verified', 'installed') and not exists (
				select from deployment after join version other on other.id = after.version_id
				where after.binding_id = d.binding_id and after.state in ('verified', 'installed') and other.spki <> e.spki
					and (after.number, after.verified_at) > (d.number, d.verified_at))))`

// sendErases puts the keys into the boxes that agents should erase.
func (t *tx) sendErases(ctx context.Context, items []openItem, _ map[certctl.ID]*contact, boxes map[certctl.ID]*certctl.MailboxWork) error {
	ids, byID := idsOf(items, dueErasure)
	if len(ids) == 0 {
		return nil
	}
	if err := t.put(ctx, `update key_erasure set number = $2 where id = any($1) and number = 0`, ids, t.now.UnixMicro()); err != nil {
		return err
	}
	rows, err := t.Query(ctx, `select e.id, e.spki, e.number from key_erasure e where e.id = any($1) and `+erasable+` order by e.id`, ids)
	if err != nil {
		return err
	}
	var work certctl.EraseWork
	_, err = pgx.ForEachRow(rows, []any{&work.ID, &work.SPKI, &work.Number}, func() error {
		box := boxes[byID[work.ID].agent]
		box.Erases = append(box.Erases, work)
		return nil
	})
	return err
}

// ringErasers rings those of the agents that have a key to erase: something may
// have taken its place just now.
func (t *tx) ringErasers(ctx context.Context, agents []certctl.ID) error {
	if len(agents) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `select distinct agent_id from due where kind = $2 and agent_id = any($1)`, agents, dueErasure)
	if err != nil {
		return err
	}
	waiting, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	t.hints(certctl.HintBell, certctl.NoLane, waiting)
	return err
}

// endErasures ends what a retired agent was to erase: it is never asked again.
func (t *tx) endErasures(ctx context.Context, agent certctl.ID) error {
	err := t.put(ctx, `delete from due where kind = $2 and agent_id = $1`, agent, dueErasure)
	return err
}

// reportedErasure is a key that reports say something of.
type reportedErasure struct {
	id, agent  certctl.ID
	name, team string // of the agent
	spki       certctl.Digest
	number     int64
	erased     bool

	erases  bool // recorded now
	refusal *certctl.Refusal
}

func (b *reportBatch) readErasures(ctx context.Context, ids []certctl.ID) error {
	rows, err := b.Query(ctx, `
		select e.id, e.agent_id, a.name, team.name, e.spki, e.number, e.erased_at is not null
		from key_erasure e join agent a on a.id = e.agent_id join team on team.id = a.team_id
		where e.id = any($1) order by e.id for no key update of e`, ids)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*reportedErasure, error) {
		e := &reportedErasure{}
		return e, row.Scan(&e.id, &e.agent, &e.name, &e.team, &e.spki, &e.number, &e.erased)
	})
	for _, e := range all {
		b.erasures[e.id] = e
	}
	return err
}

// takeErased records that a node has a key no more, or why it still has it.
func (b *reportBatch) takeErased(s certctl.Statement, refusal *certctl.Refusal) error {
	e := b.erasures[s.Object]
	switch {
	case e == nil || e.agent != s.Agent:
		return notYours("key to erase")
	case e.erased:
		return nil
	case s.Number == 0 || s.Number != e.number:
		return over("command")
	}
	e.erased, e.erases, e.refusal = refusal == nil, refusal == nil, refusal
	data := map[string]any{"agent": e.agent, "name": e.name, "erasure": e.id, "spki": e.spki}
	if refusal == nil {
		b.done[dueErasure] = append(b.done[dueErasure], e.id)
		b.event(e.team, certctl.AggregateAgent, e.agent, certctl.EventKeyErased, data)
		return nil
	}
	data["code"], data["retry_at"] = certctl.Clip(refusal.Code, 100), b.now.Add(refusalAgain)
	b.eventOutcome(e.team, certctl.AggregateAgent, e.agent, certctl.EventKeyErasureDelayed, certctl.OutcomeFailure, data)
	b.due = append(b.due, dueRow{kind: dueErasure, id: e.id, verb: certctl.HintBell, agent: e.agent, urgency: certctl.UrgencyNow, at: b.now.Add(refusalAgain)})
	return nil
}

func (b *reportBatch) writeErasures(ctx context.Context) error {
	for _, id := range sortedIDs(b.erasures) {
		e := b.erasures[id]
		var err error
		switch {
		case e.erases:
			_, err = b.Exec(ctx, `update key_erasure set erased_at = now(), wait = '', code = '', message = '' where id = $1`, id)
		case e.refusal != nil:
			_, err = b.Exec(ctx, `update key_erasure set wait = 'backoff', code = $2, message = $3 where id = $1 and erased_at is null`,
				id, certctl.Clip(e.refusal.Code, 100), certctl.Clip(e.refusal.Message, 1000))
		}
		if err != nil {
			return err
		}
	}
	// Whatever was installed or let go of may have been the last to need a key.
	agents := map[certctl.ID]bool{}
	for _, d := range b.deployments {
		if d.receipt != nil && d.State.Final() {
			agents[d.Agent] = true
		}
	}
	for _, x := range b.bindings {
		if x.forgets {
			agents[x.agent] = true
		}
	}
	return b.ringErasers(ctx, keysOf(agents))
}

// compromised returns those of the keys that nodes were told to erase.
func (t *tx) compromised(ctx context.Context, spkis []certctl.Digest) (map[certctl.Digest]bool, error) {
	rows, err := t.Query(ctx, `select distinct spki from key_erasure where spki = any($1)`, spkis)
	if err != nil {
		return nil, err
	}
	out := map[certctl.Digest]bool{}
	var spki certctl.Digest
	_, err = pgx.ForEachRow(rows, []any{&spki}, func() error {
		out[spki] = true
		return nil
	})
	return out, err
}
