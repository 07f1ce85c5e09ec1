package store

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

const (
	// alternationWindow is how close together two superseded sessions must come
	// back to count as two machines that take turns.
	alternationWindow = 10 * time.Minute

	// rememberedSessions is how many superseded sessions of an agent are known as
	// such. An older one that comes back counts as a new session, and is caught
	// when it is superseded in turn.
	rememberedSessions = 8
)

// session is which run of an agent counts. Each start of an agent draws an id;
// the first request with a new id takes the next number and supersedes the
// session before it.
type session struct {
	number       int64
	id           certctl.ID
	began        time.Time    // its first request, by the node's clock
	superseded   []certctl.ID // newest last
	alternatedBy certctl.ID   // the superseded session that came back last, and when
	alternatedAt time.Time
}

// verdict is what becomes of a request.
type verdict struct {
	stop     string // why this session must end
	conflict string // with stop: two machines use the identity, and how it shows
}

// Reasons of a conflict, as events name them.
const (
	conflictMachine  = "machine_id"
	conflictSessions = "sessions"
)

// ask decides about a request, while the agent was enrolled by the machine
// enrolled.
//
// A superseded session that asks again is told to stop: it is an old process, or
// another machine with the same keys. An old process stops for good. Another
// machine starts again, supersedes the first one, and makes that come back in
// turn: so when a second superseded session comes back within the window, two
// machines take turns. The same session that asks again, perhaps since the answer
// was lost, is no further evidence; nor is a request from before the session that
// counts began, which was late on its way, or is played back by somebody.
func (s *session) ask(ask certctl.MailboxAsk, enrolled string, now time.Time) verdict {
	id := ask.Request.Session
	switch {
	case ask.Request.MachineID != enrolled:
		return verdict{"this identity belongs to another machine", conflictMachine}
	case id.IsZero():
		return verdict{stop: "the request names no session"}
	case id == s.id:
		return verdict{}
	case !slices.Contains(s.superseded, id):
		if !s.id.IsZero() {
			s.superseded = append(s.superseded, s.id)
			s.superseded = s.superseded[max(0, len(s.superseded)-rememberedSessions):]
		}
		s.number, s.id, s.began = s.number+1, id, ask.Time
		return verdict{}
	case s.alternatedBy == id || !ask.Time.After(s.began):
		return verdict{stop: "another run of this agent has taken over"}
	case !s.alternatedBy.IsZero() && now.Sub(s.alternatedAt) < alternationWindow:
		return verdict{"two machines use this identity in turn", conflictSessions}
	}
	s.alternatedBy, s.alternatedAt = id, now
	return verdict{stop: "another run of this agent has taken over"}
}

// contact is an agent that asks, with its locked session.
type contact struct {
	agent   certctl.Agent
	session session
	changed bool // the session did
	counts  bool // a request of the session that counts was among those that came
	last    certctl.MailboxRequest
}

// lockContact makes a transaction the only one that decides about an agent's
// sessions and mailbox until it ends. It is taken before any other lock.
func (t *tx) lockContact(ctx context.Context, agents ...certctl.ID) error {
	err := t.put(ctx, `select from agent_contact where agent_id = any($1) order by agent_id for update`, agents)
	return err
}

// forgetSessions begins an agent's sessions anew: whoever asks next is the one.
func (t *tx) forgetSessions(ctx context.Context, agent certctl.ID) error {
	if err := t.lockContact(ctx, agent); err != nil {
		return err
	}
	err := t.put(ctx, `
		update agent_contact set session_id = null, session_began = null, superseded = '{}',
			alternated_by = null, alternated_at = null
		where agent_id = $1`, agent)
	return err
}

// contacts locks and returns the agents that ask. Those that are not known are
// not in the answer.
func (t *tx) contacts(ctx context.Context, ids []certctl.ID) (map[certctl.ID]*contact, error) {
	if err := t.put(ctx, `
		insert into agent_contact (agent_id, at) select id, now() from agent
		where id = any($1) and not exists (select from agent_contact where agent_id = agent.id)
		order by id on conflict (agent_id) do nothing`, ids); err != nil {
		return nil, err
	}
	if err := t.lockContact(ctx, ids...); err != nil {
		return nil, err
	}
	// Read after the lock: what others have decided meanwhile counts.
	agents, err := t.agentsByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	known := make(map[certctl.ID]*contact, len(agents))
	for id, a := range agents {
		known[id] = &contact{agent: a}
	}
	rows, err := t.Query(ctx, `
		select agent_id, session, session_id, session_began, superseded, alternated_by, alternated_at
		from agent_contact where agent_id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	var id certctl.ID
	var s session
	_, err = pgx.ForEachRow(rows, []any{&id, &s.number, &s.id, &s.began, &s.superseded, &s.alternatedBy, &s.alternatedAt}, func() error {
		if c := known[id]; c != nil {
			c.session = s
			c.session.superseded = slices.Clone(s.superseded)
		}
		return nil
	})
	return known, err
}

// saveContacts stores the sessions of agents that have asked, and what they say
// of themselves where it has changed.
func (t *tx) saveContacts(ctx context.Context, contacts map[certctl.ID]*contact) error {
	var present []certctl.ID
	var machines []string
	for _, id := range sortedIDs(contacts) {
		c := contacts[id]
		if c.changed {
			s := c.session
			if err := t.put(ctx, `
				update agent_contact set session = $2, session_id = $3, session_began = $4, superseded = $5, alternated_by = $6, alternated_at = $7
				where agent_id = $1`, id, s.number, s.id, s.began, some(s.superseded), s.alternatedBy, s.alternatedAt); err != nil {
				return err
			}
		}
		if !c.counts {
			continue
		}
		present, machines = append(present, id), append(machines, certctl.Clip(c.last.MachineID, 200))
		c.agent.Session, c.agent.LastContact = c.session.number, t.now
		version := certctl.Clip(c.last.Version, 100)
		if version == c.agent.Version && slices.Equal(c.last.Capabilities, c.agent.Capabilities) && slices.Equal(c.last.Features, c.agent.Features) {
			continue
		}
		c.agent.Version, c.agent.Capabilities, c.agent.Features = version, c.last.Capabilities, c.last.Features
		if err := t.put(ctx, `update agent set version = $2, capabilities = $3, features = $4 where id = $1`,
			id, version, some(c.agent.Capabilities), some(c.agent.Features)); err != nil {
			return err
		}
	}
	err := t.put(ctx, `
		update agent_contact c set at = now(), machine_id = new.machine from unnest($1::uuid[], $2::text[]) as new(id, machine)
		where c.agent_id = new.id`, present, machines)
	return err
}

// inConflict puts an agent in conflict: nothing is sent to it until somebody has
// said which machine it is.
func (t *tx) inConflict(ctx context.Context, a *certctl.Agent, v verdict, machine string) error {
	a.State, a.StateReason = certctl.AgentConflict, v.stop
	if v.conflict == conflictMachine {
		a.StateReason += ": enrolled was machine " + a.MachineID + ", asked has machine " + certctl.Clip(machine, 200)
	}
	_, err := t.Exec(ctx, `update agent set state = 'conflict', state_reason = $2 where id = $1 and state = 'active'`, a.ID, a.StateReason)
	t.eventOutcome(a.Team, certctl.AggregateAgent, a.ID, certctl.EventAgentConflict, certctl.OutcomeFailure, map[string]any{
		"agent": a.ID, "name": a.Name, "code": v.conflict,
	})
	return err
}

// sortedIDs returns a map's ids in their order, in which locks are taken.
func sortedIDs[V any](m map[certctl.ID]V) []certctl.ID {
	ids := make([]certctl.ID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b certctl.ID) int { return slices.Compare(a[:], b[:]) })
	return ids
}
