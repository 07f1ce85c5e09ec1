package store

import (
	"context"
	"errors"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// dueTest is the kind of a test of a target that its agent should make.
const dueTest = "test"

// maxTestBytes bounds the places of the tests of one answer. One test is sent in
// any case, with as many places as fit.
const maxTestBytes = 24 << 10

// TestTarget asks a target's agent to test it, and rings the agent. It takes the
// place of an earlier test. An agent that is not known to be able to is not asked:
// nobody would answer.
func (s *Store) TestTarget(ctx context.Context, actor certctl.Actor, ref string) (certctl.TargetTest, error) {
	var test certctl.TargetTest
	err := s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectTarget, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		agent, err := t.testable(ctx, f)
		if err != nil {
			return err
		}
		// The test is locked before it is due, as by the report of an earlier one.
		if _, err := t.Exec(ctx, `select from target_test where target_id = $1 for no key update`, f.id); err != nil {
			return err
		}
		if err := t.put(ctx, `delete from due where kind = $2 and id in (select id from target_test where target_id = $1)`, f.id, dueTest); err != nil {
			return err
		}
		id := certctl.NewID(t.now)
		if err := t.put(ctx, `
			insert into target_test (target_id, id, number, revision, not_after)
			select id, $2, $3, revision, now() + $4 from target where id = $1
			on conflict (target_id) do update set id = excluded.id, number = excluded.number, revision = excluded.revision,
				requested_at = now(), not_after = excluded.not_after, finished_at = null, steps = '[]', receipt = null`,
			f.id, id, t.now.UnixMicro(), certctl.TargetTestLife); err != nil {
			return err
		}
		t.event(f.team, certctl.AggregateTarget, f.id, certctl.EventTargetTestRequested, map[string]any{
			"target": f.id, "name": f.name, "test": id, "agent": agent,
		})
		t.bell(agent)
		if err := t.due(ctx, dueRow{
			kind: dueTest, id: id, verb: certctl.HintBell, agent: agent, urgency: certctl.UrgencyNow, at: t.now.Add(agentReminder),
		}); err != nil {
			return err
		}
		test, err = t.targetTest(ctx, f.id)
		return err
	})
	return test, err
}

// testable returns a target's agent, if that can be asked to test it.
func (t *tx) testable(ctx context.Context, f found) (certctl.ID, error) {
	var agent certctl.Ref
	var state certctl.AgentState
	var version string
	var features []string
	var archived, heard bool
	if err := t.QueryRow(ctx, `
		select a.id, a.name, a.state, a.version, a.features, target.archived_at is not null, contact.agent_id is not null
		from target join agent a on a.id = target.agent_id left join agent_contact contact on contact.agent_id = a.id
		where target.id = $1`, f.id).
		Scan(&agent.ID, &agent.Name, &state, &version, &features, &archived, &heard); err != nil {
		return certctl.NoID, err
	}
	switch {
	case archived:
		return certctl.NoID, isArchived(certctl.ObjectTarget, f.name)
	case state != certctl.AgentActive:
		return certctl.NoID, certctl.Errorf(certctl.Conflict, "the agent %s of this target is %s: nothing is sent to it", agent.Name, state)
	case !heard:
		return certctl.NoID, certctl.Errorf(certctl.Conflict, "the agent %s has never asked for work, so nobody knows what it can", agent.Name).
			WithRemedy("start certctl-agent on its node")
	case !slices.Contains(features, certctl.FeatureTest):
		return certctl.NoID, certctl.Errorf(certctl.Conflict, "the agent %s is of version %s, which cannot test targets", agent.Name, version).
			WithRemedy("update certctl-agent on its node")
	}
	return agent.ID, nil
}

// targetTest reads the newest test of a target; a zero one when there is none.
func (t *tx) targetTest(ctx context.Context, target certctl.ID) (certctl.TargetTest, error) {
	var test certctl.TargetTest
	err := t.QueryRow(ctx, `
		select id, target_id, revision, requested_at, not_after, finished_at, steps, receipt from target_test where target_id = $1`, target).
		Scan(&test.ID, &test.Target, &test.Revision, &test.RequestedAt, &test.NotAfter, &test.FinishedAt, &test.Steps, &test.Receipt)
	if errors.Is(err, pgx.ErrNoRows) {
		return test, nil
	}
	return test, err
}

// sendTests puts the tests into the boxes whose agents can make them, and adds to
// used how many bytes of each answer that takes.
func (t *tx) sendTests(ctx context.Context, asking map[certctl.ID]*contact, boxes map[certctl.ID]*certctl.MailboxWork, used map[certctl.ID]int) error {
	var able []certctl.ID
	for _, id := range sortedIDs(asking) {
		if slices.Contains(asking[id].last.Features, certctl.FeatureTest) {
			able = append(able, id)
		}
	}
	if len(able) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `
		select x.id, target.id, target.name, target.agent_id, x.number, x.not_after
		from target_test x join target on target.id = x.target_id
		where target.agent_id = any($1) and target.archived_at is null and x.finished_at is null and x.not_after > now()
		order by x.id`, able)
	if err != nil {
		return err
	}
	var agents []certctl.ID
	tests, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w certctl.TestWork, err error) {
		var agent certctl.ID
		err = row.Scan(&w.ID, &w.Target.ID, &w.Target.Name, &agent, &w.Number, &w.NotAfter)
		agents = append(agents, agent)
		return w, err
	})
	if err != nil || len(tests) == 0 {
		return err
	}
	places, err := t.testPlaces(ctx, tests)
	size := map[certctl.ID]int{}
	for i, w := range tests {
		bytes := w.Fit(places[w.Target.ID], maxTestBytes)
		if size[agents[i]] > 0 && size[agents[i]]+bytes > maxTestBytes {
			boxes[agents[i]].More = true
			continue
		}
		size[agents[i]] += bytes
		boxes[agents[i]].Tests = append(boxes[agents[i]].Tests, w)
	}
	for agent, bytes := range size {
		used[agent] += bytes * 16 / 9 // base64, twice
	}
	return err
}

// testPlaces reads what is bound to the targets of tests.
func (t *tx) testPlaces(ctx context.Context, tests []certctl.TestWork) (map[certctl.ID][]certctl.TestPlace, error) {
	ids := make([]certctl.ID, len(tests))
	for i, w := range tests {
		ids[i] = w.Target.ID
	}
	rows, err := t.Query(ctx, `
		select b.target_id, b.id, c.name, b.place, b.slot, c.dns, c.ips, c.uris, c.emails, v.fingerprint, v.spki
		from binding b join certificate c on c.id = b.certificate_id join holder h on h.id = b.holder_id
		left join version v on v.id = h.version_id
		where b.target_id = any($1) and b.unbound_at is null order by b.target_id, b.place, b.slot`, ids)
	if err != nil {
		return nil, err
	}
	places := map[certctl.ID][]certctl.TestPlace{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var p certctl.TestPlace
		var target certctl.ID
		err := row.Scan(&target, &p.Binding, &p.Certificate, &p.Place, &p.Slot, &p.Names.DNS, &p.Names.IP, &p.Names.URI, &p.Names.Email, &p.Fingerprint, &p.SPKI)
		places[target] = append(places[target], p)
		return struct{}{}, err
	})
	return places, err
}
