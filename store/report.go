package store

import (
	"context"
	"errors"
	"time"

	"github.com/certctl/certctl"
)

// refusalAgain is when a node that has refused a command is asked once more: by
// then somebody may have changed its policy.
const refusalAgain = 10 * time.Minute

// expiredAgain is the same for a command that came too late.
const expiredAgain = 5 * time.Second

// refusedUntil is when a node is asked again that has refused with a code.
func (t *tx) refusedUntil(code string) time.Time {
	if code == certctl.RefusalExpired {
		return t.now.Add(expiredAgain)
	}
	return t.now.Add(refusalAgain)
}

// RecordReports records what agents say, many of them in one transaction: the
// i-th answer is to the i-th report. The caller has proved who said it.
//
// A CSR moves the order that waits for it on, a receipt ends the command that it
// names, a refusal lets it wait. A report that was recorded before is answered
// like the first time. One about something that is over, or that was sent again
// since, changes nothing, and one that its sender may not make is refused, with
// an event; both are final, so that no agent repeats them for ever. What one
// report says never fails the others.
func (s *Store) RecordReports(ctx context.Context, reports []certctl.AgentReport) ([]certctl.ReportAnswer, error) {
	answers := make([]certctl.ReportAnswer, len(reports))
	err := s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		b, err := t.reportBatch(ctx, reports)
		if err != nil {
			return err
		}
		for i, report := range reports {
			err := b.take(report)
			var said *certctl.Error
			if err != nil && !errors.As(err, &said) {
				return err
			}
			answers[i] = answerOf(said)
			if said != nil && said.Code == certctl.Denied {
				b.denied = append(b.denied, report)
			}
		}
		return b.write(ctx)
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// answerOf tells an agent what became of its report. Only errors that will be the
// same for ever come here.
func answerOf(said *certctl.Error) certctl.ReportAnswer {
	if said == nil {
		return certctl.ReportAnswer{Recorded: true}
	}
	return certctl.ReportAnswer{Final: true, Message: said.Message}
}

// reportBatch is what some reports are about, and what they change.
type reportBatch struct {
	*tx
	orders      map[certctl.ID]*reportedOrder
	deployments map[certctl.ID]*reportedDeployment
	bindings    map[certctl.ID]*reportedBinding
	blocked     map[certctl.Digest]string
	served      map[certctl.Digest]bool // of the keys handed over, those that are not new
	denied      []certctl.AgentReport
	erasures    map[certctl.ID]*reportedErasure
	shares      map[certctl.ID]*reportedShare // by the holder
	sealed      []sealedKeys
	inventories []certctl.AgentReport
	proofs      map[certctl.ID]*reportedProof
	tests       map[certctl.ID]*reportedTest

	due     []dueRow
	done    map[string][]certctl.ID
	changed map[certctl.ID]bool // certificates
}

// take judges one report by what the batch has read, and notes what it changes.
func (b *reportBatch) take(r certctl.AgentReport) error {
	s := r.Statement
	switch {
	case r.CSR != nil:
		if err := b.takeCSR(s, r.CSR); err != nil {
			return err
		}
		return b.noteSealed(s, r)
	case r.Shared != nil:
		return b.takeShared(s, r.Shared)
	case r.Receipt != nil:
		return b.takeReceipt(s, r.Receipt, r.Next)
	case r.Inventory != nil:
		b.inventories = append(b.inventories, r)
		return nil
	case r.Held:
		return b.takeHeld(s, nil)
	case r.Tested != nil:
		return b.takeTested(s, r.Tested.Steps)
	case r.Refusal == nil:
		return certctl.Errorf(certctl.Denied, "this report says nothing")
	case s.Kind == certctl.ReportForgotten:
		return b.takeForgotten(s)
	case s.Kind == certctl.ReportErased:
		return b.takeErased(s, nil)
	case b.erasures[s.Object] != nil:
		return b.takeErased(s, r.Refusal)
	case b.orders[s.Object] != nil:
		return b.refuseKey(s, r.Refusal)
	case b.deployments[s.Object] != nil:
		return b.refuseInstall(s, r.Refusal)
	case b.bindings[s.Object] != nil:
		return b.refuseForget(s)
	case b.shares[s.Object] != nil:
		return b.refuseShare(s, r.Refusal)
	case b.proofs[s.Object] != nil:
		return b.takeHeld(s, r.Refusal)
	case b.tests[s.Object] != nil:
		return b.takeTested(s, refusedTest(r.Refusal))
	}
	return certctl.Errorf(certctl.Gone, "there is no such command")
}

// over is what an agent is told of a report that comes too late.
func over(what string) error {
	return certctl.Errorf(certctl.Gone, "this %s is over, or was asked for again since", what)
}

// notYours is what an agent is told of somebody else's affairs.
func notYours(what string) error {
	return certctl.Errorf(certctl.Denied, "this agent has no such %s", what)
}

// write stores what the batch has noted, each kind with one statement.
func (b *reportBatch) write(ctx context.Context) error {
	for _, write := range []func(context.Context) error{b.writeOrders, b.writeDeployments, b.writeNextKeys, b.writeBindings, b.writeShared, b.writeErasures, b.writeDenied, b.writeInventories, b.writeProofs, b.writeTests} {
		if err := write(ctx); err != nil {
			return err
		}
	}
	for kind, ids := range b.done {
		if err := b.tx.done(ctx, kind, ids...); err != nil {
			return err
		}
	}
	if err := b.tx.due(ctx, b.due...); err != nil {
		return err
	}
	return b.refreshStatus(ctx, keysOf(b.changed)...)
}

// writeDenied records who said what it may not.
func (b *reportBatch) writeDenied(ctx context.Context) error {
	if len(b.denied) == 0 {
		return nil
	}
	ids := map[certctl.ID]bool{}
	for _, r := range b.denied {
		ids[r.Statement.Agent] = true
	}
	agents, err := b.agents(ctx, keysOf(ids))
	if err != nil {
		return err
	}
	byID := make(map[certctl.ID]certctl.Agent, len(agents))
	for _, a := range agents {
		byID[a.ID] = a
	}
	for _, r := range b.denied {
		if a, known := byID[r.Statement.Agent]; known {
			b.eventOutcome(a.Team, certctl.AggregateAgent, a.ID, certctl.EventReportDenied, certctl.OutcomeDenied, map[string]any{
				"agent": a.ID, "name": a.Name, "kind": r.Statement.Kind, "object": r.Statement.Object,
			})
		}
	}
	return nil
}
