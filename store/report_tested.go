package store

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// reportedTest is a test that reports say something of.
type reportedTest struct {
	id, target, agent certctl.ID
	name, team        string // of the target
	number            int64
	finished          bool

	steps   []certctl.TestStep // recorded now
	receipt certctl.Statement
}

func (b *reportBatch) readTests(ctx context.Context, ids []certctl.ID) error {
	b.tests = map[certctl.ID]*reportedTest{}
	rows, err := b.Query(ctx, `
		select x.id, x.target_id, target.agent_id, target.name, team.name, x.number, x.finished_at is not null
		from target_test x join target on target.id = x.target_id join team on team.id = target.team_id
		where x.id = any($1) order by x.id for no key update of x`, ids)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*reportedTest, error) {
		r := &reportedTest{}
		return r, row.Scan(&r.id, &r.target, &r.agent, &r.name, &r.team, &r.number, &r.finished)
	})
	for _, r := range all {
		b.tests[r.id] = r
	}
	return err
}

// takeTested takes what an agent has found. A refusal is a step that fails: the
// command was out of its time, or the node cannot do that.
func (b *reportBatch) takeTested(s certctl.Statement, steps []certctl.TestStep) error {
	r := b.tests[s.Object]
	switch {
	case r == nil:
		return over("test")
	case r.agent != s.Agent:
		return notYours("test")
	case s.Number != r.number:
		return over("test")
	case r.finished:
		return nil
	}
	r.finished, r.steps, r.receipt = true, clipSteps(steps), s
	b.done[dueTest] = append(b.done[dueTest], r.id)
	return nil
}

// clipSteps bounds what a node says.
func clipSteps(steps []certctl.TestStep) []certctl.TestStep {
	steps = slices.Clone(steps[:min(len(steps), certctl.MaxTestSteps)])
	for i := range steps {
		s := &steps[i]
		s.Step, s.Subject = certctl.Clip(s.Step, 40), certctl.Clip(s.Subject, 500)
		s.Message, s.Remedy = certctl.Clip(s.Message, 2000), certctl.Clip(s.Remedy, 1000)
		if s.State != certctl.StepOK && s.State != certctl.StepSkipped {
			s.State = certctl.StepFails
		}
	}
	return steps
}

// refusedTest is the step that stands for a refusal.
func refusedTest(refusal *certctl.Refusal) []certctl.TestStep {
	return []certctl.TestStep{{
		Step: "command", Subject: refusal.Code, State: certctl.StepFails, Message: refusal.Message, Remedy: refusal.Remedy,
	}}
}

func (b *reportBatch) writeTests(ctx context.Context) error {
	for _, id := range sortedIDs(b.tests) {
		r := b.tests[id]
		if len(r.steps) == 0 {
			continue
		}
		steps, err := json.Marshal(r.steps)
		if err != nil {
			return err
		}
		receipt, err := json.Marshal(r.receipt)
		if err != nil {
			return err
		}
		if err := b.put(ctx, `
			update target_test set finished_at = now(), steps = $2, receipt = $3 where id = $1`, id, string(steps), string(receipt)); err != nil {
			return err
		}
		outcome := certctl.OutcomeSuccess
		failed := certctl.TargetTest{FinishedAt: b.now, Steps: r.steps}.State(b.now) == certctl.TestFailed
		if failed {
			outcome = certctl.OutcomeFailure
		}
		b.eventOutcome(r.team, certctl.AggregateTarget, r.target, certctl.EventTargetTested, outcome, map[string]any{
			"target": r.target, "name": r.name, "test": id, "agent": r.agent, "failed": failed,
		})
	}
	return nil
}
