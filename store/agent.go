package store

import (
	"context"
	"strconv"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// GetAgent returns one agent.
func (s *Store) GetAgent(ctx context.Context, actor certctl.Actor, ref string) (certctl.Agent, error) {
	var agent certctl.Agent
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectAgent, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		agent, err = t.agent(ctx, f.id)
		return err
	})
	return agent, err
}

// ListAgents returns one page of the agents that a filter selects, newest first.
// Retired ones are listed only when they are asked for.
func (s *Store) ListAgents(ctx context.Context, actor certctl.Actor, filter certctl.AgentFilter) (certctl.Page[certctl.Agent], error) {
	var page certctl.Page[certctl.Agent]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectAgent); err != nil {
			return err
		}
		c := &conditions{}
		if err := t.agentConditions(c, filter); err != nil {
			return err
		}
		ids, limit, err := t.listIDs(ctx, "agent o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		agents, err := t.agents(ctx, ids)
		page = pageOf(agents, limit, func(a certctl.Agent) certctl.ID { return a.ID })
		return err
	})
	return page, err
}

func (t *tx) agentConditions(c *conditions, f certctl.AgentFilter) error {
	if f.State == "" {
		c.add("o.state <> 'retired'")
	} else {
		c.add("o.state = ?", string(f.State))
	}
	if len(f.Label) > 0 {
		c.add("o.labels @> ?", f.Label)
	}
	contact := "(select at from agent_contact where agent_id = o.id)"
	switch f.Presence {
	case "":
	case "online": // as certctl.Presence has it
		c.add(contact+" > ?", t.now.Add(-certctl.OfflineAfter))
	case "offline":
		c.add(contact+" <= ?", t.now.Add(-certctl.OfflineAfter))
	case "never":
		c.add(contact + " is null")
	default:
		return certctl.InvalidField("?presence", "must be online, offline or never")
	}
	t.inTeam(c, "o.team_id", f.Team)
	return nil
}

func (t *tx) agent(ctx context.Context, id certctl.ID) (certctl.Agent, error) {
	agents, err := t.agents(ctx, []certctl.ID{id})
	if err == nil && len(agents) == 0 {
		err = notFound(certctl.ObjectAgent, id.String())
	}
	if err != nil {
		return certctl.Agent{}, err
	}
	return agents[0], nil
}

// agents reads agents with their newest keys, in the order of the ids.
func (t *tx) agents(ctx context.Context, ids []certctl.ID) ([]certctl.Agent, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	key := func(kind string) string {
		return `(select public from agent_key k where k.agent_id = a.id and k.kind = '` + kind + `' order by since desc limit 1)`
	}
	rows, err := t.Query(ctx, `
		select a.id, team.name, a.name, a.state, a.state_reason, a.machine_id, `+key("bus")+`, `+key("signing")+`, `+key("sealing")+`,
			a.statement, a.labels, a.version, a.capabilities, a.features, coalesce(contact.session, 0), contact.at, a.enrolled_at, a.retired_at
		from agent a join team on team.id = a.team_id left join agent_contact contact on contact.agent_id = a.id
		where a.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a certctl.Agent, err error) {
		var bus []byte
		err = row.Scan(&a.ID, &a.Team, &a.Name, &a.State, &a.StateReason, &a.MachineID, &bus, &a.Keys.Signing, &a.Keys.Sealing,
			&a.Statement, &a.Labels, &a.Version, &a.Capabilities, &a.Features, &a.Session, &a.LastContact, &a.EnrolledAt, &a.RetiredAt)
		a.Keys.Bus = string(bus)
		return a, err
	})
	read := make(map[certctl.ID]certctl.Agent, len(all))
	for _, a := range all {
		read[a.ID] = a
	}
	return inOrder(ids, read), err
}

// ApproveAgent lets an agent that waits for it begin to work.
func (s *Store) ApproveAgent(ctx context.Context, actor certctl.Actor, ref string) (certctl.Agent, error) {
	return s.changeAgent(ctx, actor, certctl.VerbEnroll, ref, func(t *tx, f found) error {
		tag, err := t.Exec(ctx, `update agent set state = 'active', state_reason = '' where id = $1 and state = 'pending'`, f.id)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return t.notInState(ctx, f, certctl.AgentPending)
		}
		t.event(f.team, certctl.AggregateAgent, f.id, certctl.EventAgentApproved, map[string]any{"agent": f.id, "name": f.name})
		return t.shareOf(ctx, f.id)
	})
}

// ResolveAgentConflict says which machine an agent in conflict really is. Every
// session begins anew; another machine puts it in conflict again.
func (s *Store) ResolveAgentConflict(ctx context.Context, actor certctl.Actor, ref, machineID string) (certctl.Agent, error) {
	if machineID == "" || len(machineID) > 200 {
		return certctl.Agent{}, certctl.InvalidField("/machine_id", "has 1 to 200 characters")
	}
	return s.changeAgent(ctx, actor, certctl.VerbUpdate, ref, func(t *tx, f found) error {
		if err := t.forgetSessions(ctx, f.id); err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `
			update agent set state = 'active', state_reason = '', machine_id = $2 where id = $1 and state = 'conflict'`, f.id, machineID)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return t.notInState(ctx, f, certctl.AgentConflict)
		}
		t.event(f.team, certctl.AggregateAgent, f.id, certctl.EventAgentResolved, map[string]any{"agent": f.id, "name": f.name})
		t.bell(f.id)
		return t.shareOf(ctx, f.id)
	})
}

// changeAgent runs a change of an agent that the actor may do verb to.
func (s *Store) changeAgent(ctx context.Context, actor certctl.Actor, verb certctl.Verb, ref string, change func(*tx, found) error) (certctl.Agent, error) {
	var agent certctl.Agent
	err := s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectAgent, verb, ref)
		if err != nil {
			return err
		}
		if err := change(t, f); err != nil {
			return err
		}
		agent, err = t.agent(ctx, f.id)
		return err
	})
	return agent, err
}

func (t *tx) notInState(ctx context.Context, f found, wanted certctl.AgentState) error {
	var state certctl.AgentState
	if err := t.QueryRow(ctx, `select state from agent where id = $1`, f.id).Scan(&state); err != nil {
		return err
	}
	return certctl.Errorf(certctl.Conflict, "the agent %s is %s, not %s", f.name, state, wanted)
}

// RetiredAgents returns the bus keys that were retired within a time: those of
// retired agents and those that were replaced.
func (s *Store) RetiredAgents(ctx context.Context, within time.Duration) ([]certctl.RetiredAgent, error) {
	rows, err := s.pool.Query(ctx, `
		select convert_from(public, 'UTF8'), until from agent_key where kind = 'bus' and until > now() - $1::interval order by until, public`, within)
	if err != nil {
		return nil, failed(err, "retired agents could not be read")
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r certctl.RetiredAgent, err error) {
		return r, row.Scan(&r.Key, &r.At)
	})
	return all, failed(err, "retired agents could not be read")
}

// RetireAgent ends an agent for ever: its keys are refused from now on, what its
// targets serve stays as it is and is managed no more. Without force it is
// refused while certificates are bound to its targets, and the error names them.
func (s *Store) RetireAgent(ctx context.Context, actor certctl.Actor, ref string, force bool) (certctl.Agent, error) {
	return s.changeAgent(ctx, actor, certctl.VerbRetire, ref, func(t *tx, f found) error {
		certificates, err := t.retire(ctx, f)
		if err != nil {
			return err
		}
		if len(certificates) > 0 && !force {
			return t.stillServes(ctx, f, certificates)
		}
		t.event(f.team, certctl.AggregateAgent, f.id, certctl.EventAgentRetired, map[string]any{
			"agent": f.id, "name": f.name, "certificates": len(certificates),
		})
		return t.leave(ctx, f, certificates)
	})
}

// retire ends an agent and its keys, and returns the certificates that are bound
// to its targets.
func (t *tx) retire(ctx context.Context, f found) ([]certctl.ID, error) {
	if err := t.lockContact(ctx, f.id); err != nil {
		return nil, err
	}
	tag, err := t.Exec(ctx, `
		update agent set state = 'retired', state_reason = '', retired_at = now() where id = $1 and state <> 'retired'`, f.id)
	if err != nil {
		return nil, err
	}
	if tag.RowsAffected() == 0 {
		return nil, certctl.Errorf(certctl.Gone, "the agent %s is retired already", f.name)
	}
	if err := t.endKeys(ctx, f.id); err != nil {
		return nil, err
	}
	t.hint(certctl.HintSystem, certctl.NoLane, f.id) // whoever keeps the bus's accounts
	return t.certificatesOfAgent(ctx, f.id)
}

// stillServes says what only the agent serves.
func (t *tx) stillServes(ctx context.Context, f found, certificates []certctl.ID) error {
	const shown = 10
	var names []string
	if err := t.QueryRow(ctx, `select array(select name from certificate where id = any($1) order by name limit $2)`,
		certificates, shown).Scan(&names); err != nil {
		return err
	}
	rest := ""
	if more := len(certificates) - len(names); more > 0 {
		rest = " and " + strconv.Itoa(more) + " more"
	}
	return certctl.Errorf(certctl.Conflict, "the targets of %s serve %d certificates: %v%s", f.name, len(certificates), names, rest).
		WithRemedy("bind them elsewhere first, or retire it with force: what is served stays, and is renewed no more")
}

// leave unbinds everything from a retired agent's targets and archives these.
func (t *tx) leave(ctx context.Context, f found, certificates []certctl.ID) error {
	for _, id := range certificates {
		h, err := t.hold(ctx, certctl.VerbUpdate, id.String())
		if err != nil {
			return err
		}
		var gone []heldBinding
		for _, b := range h.bindings {
			if b.agent == f.id {
				gone = append(gone, b)
			}
		}
		if err := t.unbind(ctx, h, gone, false); err != nil {
			return err
		}
	}
	if err := t.refreshStatus(ctx, certificates...); err != nil {
		return err
	}
	// What was to be forgotten before is never asked for again.
	if err := t.put(ctx, `
		update binding set forgotten_at = now() where unbound_at is not null and forgotten_at is null
			and id in (select id from due where agent_id = $1 and kind = 'binding')`, f.id); err != nil {
		return err
	}
	if err := t.put(ctx, `delete from due where agent_id = $1 and kind = 'binding'`, f.id); err != nil {
		return err
	}
	if err := t.put(ctx, `delete from due where kind = $2 and agent_id = $1`, f.id, dueTest); err != nil {
		return err
	}
	if err := t.endErasures(ctx, f.id); err != nil {
		return err
	}
	if err := t.dropProofs(ctx, `p.agent_id = $1`, f.id); err != nil {
		return err
	}
	rows, err := t.Query(ctx, `
		update target set archived_at = now(), updated_at = now() where agent_id = $1 and archived_at is null returning id, name`, f.id)
	if err != nil {
		return err
	}
	var target certctl.Ref
	_, err = pgx.ForEachRow(rows, []any{&target.ID, &target.Name}, func() error {
		t.event(f.team, certctl.AggregateTarget, target.ID, certctl.EventTargetArchived, map[string]any{"target": target.ID, "name": target.Name})
		return nil
	})
	return err
}
