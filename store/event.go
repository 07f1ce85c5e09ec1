package store

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"github.com/certctl/certctl"
)

// event notes what the transaction did; appendEvents writes it at its end. team
// is the team's name, object what the event is about, and data a struct or map
// of ids, names, times, serials, fingerprints and codes only.
func (t *tx) event(team string, aggregate certctl.Aggregate, object certctl.ID, name certctl.EventName, data any) {
	t.eventOutcome(team, aggregate, object, name, certctl.OutcomeSuccess, data)
}

func (t *tx) eventOutcome(team string, aggregate certctl.Aggregate, object certctl.ID, name certctl.EventName, outcome string, data any) {
	encoded, err := json.Marshal(data)
	if err != nil {
		encoded = []byte("{}") // only ids, strings and times are ever passed: they encode
	}
	t.pending = append(t.pending, certctl.Event{
		Team: team, Aggregate: aggregate, Object: object, Name: name, Outcome: outcome,
		Actor: t.actor.Principal.Name, ActorKind: t.actor.Principal.Kind,
		RequestID: t.actor.RequestID, Trace: t.actor.Trace, Data: encoded,
	})
}

// appendEvents writes the noted events, their places in the objects' histories
// and their duty to be published, as one statement each for all of them.
func (t *tx) appendEvents(ctx context.Context) error {
	if len(t.pending) == 0 {
		return nil
	}
	if err := t.number(ctx); err != nil {
		return err
	}
	n := len(t.pending)
	ids, objects, teams := make([]certctl.ID, n), make([]certctl.ID, n), make([]string, n)
	aggregates, names, actors, outcomes, traces := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	sequences, bodies, sums := make([]int64, n), make([][]byte, n), make([][]byte, n)
	for i := range t.pending {
		e := &t.pending[i]
		e.Time = t.now
		if e.ID.IsZero() {
			e.ID = certctl.NewID(t.now).WithOrder(i)
		}
		body, err := e.Seal()
		if err != nil {
			return err
		}
		sum := certctl.DigestOf(body)
		ids[i], objects[i], teams[i], aggregates[i], names[i] = e.ID, e.Object, e.Team, string(e.Aggregate), string(e.Name)
		actors[i], outcomes[i], traces[i], sequences[i], bodies[i], sums[i] = e.Actor, e.Outcome, e.Trace, e.Sequence, body, sum[:]
	}
	err := t.put(ctx, `
		with written as (
			insert into event (id, team_id, aggregate, object_id, sequence, name, actor, outcome, trace, body, sha256)
			select e.id, team.id, e.aggregate, e.object, e.sequence, e.name, e.actor, e.outcome, e.trace, e.body, e.sum
			from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], $6::text[], $7::text[],
			            $8::text[], $9::text[], $10::bytea[], $11::bytea[])
			     as e(id, team, aggregate, object, sequence, name, actor, outcome, trace, body, sum)
			join team on team.name = e.team
			returning id)
		insert into event_out (id) select id from written`,
		ids, teams, aggregates, objects, sequences, names, actors, outcomes, traces, bodies, sums)
	if err != nil {
		return err
	}
	t.effects.Events = t.pending
	return t.notify(ctx, t.pending)
}

// number gives each noted event its place in its object's history. Heads are
// locked in the order of their ids, so that two transactions cannot deadlock.
func (t *tx) number(ctx context.Context) error {
	counts := map[certctl.ID]int64{}
	for _, e := range t.pending {
		counts[e.Object]++
	}
	objects := make([]certctl.ID, 0, len(counts))
	for id := range counts {
		objects = append(objects, id)
	}
	slices.SortFunc(objects, func(a, b certctl.ID) int { return cmp.Compare(a.String(), b.String()) })
	amounts := make([]int64, len(objects))
	for i, id := range objects {
		amounts[i] = counts[id]
	}
	rows, err := t.Query(ctx, `
		insert into event_head as head (object_id, sequence)
		select * from unnest($1::uuid[], $2::bigint[])
		on conflict (object_id) do update set sequence = head.sequence + excluded.sequence
		returning object_id, sequence`, objects, amounts)
	if err != nil {
		return err
	}
	defer rows.Close()
	next := map[certctl.ID]int64{}
	for rows.Next() {
		var id certctl.ID
		var last int64
		if err := rows.Scan(&id, &last); err != nil {
			return err
		}
		next[id] = last - counts[id]
	}
	for i := range t.pending {
		e := &t.pending[i]
		next[e.Object]++
		e.Sequence = next[e.Object]
	}
	return rows.Err()
}
