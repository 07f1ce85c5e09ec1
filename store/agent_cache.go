package store

import (
	"context"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// AgentsByID returns agents with their public keys and the statement that vouches
// for them; of a retired agent the last keys. Unknown ids are not in the map. What
// its members refer to is shared between callers: it is not to be changed.
//
// Whatever an agent sends needs this first, and its keys and their statement are
// kilobytes: only whether a row is still the one that was read before is asked
// each time.
func (s *Store) AgentsByID(ctx context.Context, ids []certctl.ID) (map[certctl.ID]certctl.Agent, error) {
	var known map[certctl.ID]certctl.Agent
	err := s.read(ctx, func(t *tx) (err error) {
		known, err = t.agentsByID(ctx, ids)
		return err
	})
	return known, err
}

func (t *tx) agentsByID(ctx context.Context, ids []certctl.ID) (map[certctl.ID]certctl.Agent, error) {
	rows, err := t.Query(ctx, `
		select a.id, concat(a.xmin, a.ctid, team.xmin, team.ctid), coalesce(contact.session, 0), contact.at
		from agent a join team on team.id = a.team_id left join agent_contact contact on contact.agent_id = a.id
		where a.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	known := make(map[certctl.ID]certctl.Agent, len(ids))
	var unknown []certctl.ID
	states := map[certctl.ID]string{}
	var id certctl.ID
	var state string
	var session int64
	var contact time.Time
	if _, err := pgx.ForEachRow(rows, []any{&id, &state, &session, &contact}, func() error {
		a, ok := t.known.get(id, state)
		if !ok {
			unknown, states[id] = append(unknown, id), state
		}
		a.Session, a.LastContact = session, contact
		known[id] = a
		return nil
	}); err != nil {
		return nil, err
	}
	agents, err := t.agents(ctx, unknown)
	for _, a := range agents {
		known[a.ID] = a
		t.known.put(states[a.ID], a)
	}
	return known, err
}

// agentsKept bounds how many agents a process remembers, at some four kilobytes
// each; beyond it, all are forgotten.
const agentsKept = 16_384

// agentCache keeps agents as they were read, each with the identity of the row
// versions that it was read from: PostgreSQL gives every change a new one. The
// zero value is empty.
type agentCache struct {
	mu  sync.Mutex
	all map[certctl.ID]keptAgent
}

type keptAgent struct {
	state string
	agent certctl.Agent
}

func (c *agentCache) get(id certctl.ID, state string) (certctl.Agent, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, ok := c.all[id]
	if !ok || kept.state != state {
		return certctl.Agent{}, false
	}
	return kept.agent, true
}

func (c *agentCache) put(state string, a certctl.Agent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil || len(c.all) >= agentsKept {
		c.all = map[certctl.ID]keptAgent{}
	}
	c.all[a.ID] = keptAgent{state, a}
}
