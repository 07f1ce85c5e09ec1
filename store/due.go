package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
)

// Kinds of rows in the table due.
const (
	dueOrder      = "order"
	dueDeployment = "deployment"
	dueHolder     = "holder"
	dueRevocation = "revocation"
	dueCRL        = "crl"
	dueBinding    = "binding"
	dueSystem     = "system"
)

const dueRollout = "rollout"

// dueRow says when somebody must look at something, and whom to tell.
type dueRow struct {
	kind    string
	id      certctl.ID
	verb    certctl.HintVerb
	lane    string     // an issuer's id as text; "" = certctl.NoLane
	agent   certctl.ID // with HintBell: whom to ring
	urgency certctl.Urgency
	at      time.Time
}

// due sets when rows are due, replacing what was set before.
func (t *tx) due(ctx context.Context, rows ...dueRow) error {
	if len(rows) == 0 {
		return nil
	}
	n := len(rows)
	kinds, ids, verbs, lanes := make([]string, n), make([]certctl.ID, n), make([]string, n), make([]string, n)
	agents, urgencies, times := make([]certctl.ID, n), make([]int16, n), make([]time.Time, n)
	for i, row := range rows {
		lane := row.lane
		if lane == "" {
			lane = certctl.NoLane
		}
		kinds[i], ids[i], verbs[i], lanes[i] = row.kind, row.id, string(row.verb), lane
		agents[i], urgencies[i], times[i] = row.agent, int16(row.urgency), row.at
	}
	err := t.put(ctx, `
		insert into due (kind, id, verb, lane, agent_id, urgency, due_at)
		select * from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::smallint[], $7::timestamptz[])
		order by 1, 2 -- of two transactions that set the same rows, one waits for the other
		on conflict (kind, id) do update set verb = excluded.verb, lane = excluded.lane,
			agent_id = excluded.agent_id, urgency = excluded.urgency, due_at = excluded.due_at`,
		kinds, ids, verbs, lanes, agents, urgencies, times)
	return err
}

// done removes rows of a kind: nobody need look at them again.
func (t *tx) done(ctx context.Context, kind string, ids ...certctl.ID) error {
	if len(ids) == 0 {
		return nil
	}
	err := t.put(ctx, `delete from due where kind = $1 and id = any($2)`, kind, ids)
	return err
}
