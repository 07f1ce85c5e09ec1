//go:build faults

package main

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/cmd/internal/fault"
	"github.com/certctl/certctl/store"
)

// Points at which a server can be told to end or to stop: the gaps between what
// is committed in PostgreSQL and what is done outside of it.
const (
	faultCommitted      = "committed"       // a change is committed, its hints, bells and events are not given yet
	faultIssueBegun     = "issue-begun"     // the attempt is recorded, the CA is not asked
	faultIssueSigned    = "issue-signed"    // the CA has answered, nothing of it is recorded
	faultIssueFinished  = "issue-finished"  // the leaf is recorded, the hint is not acknowledged
	faultReportRecorded = "report-recorded" // an agent's report is recorded, not answered
	faultMailboxRead    = "mailbox-read"    // commands are numbered and recorded as sent, not sent
	faultDueClaimed     = "due-claimed"     // due rows are claimed, their hints are not given
)

// reached is the process's one hook.
var reached = sync.OnceValue(func() func(string) {
	if hook := fault.Hook(os.Environ()); hook != nil {
		return hook
	}
	return func(string) {}
})

func knownVariables() []string { return []string{fault.Variable} }

// committed is called after each commit that somebody should hear of.
func committed(effects certctl.Effects) {
	if len(effects.Hints) > 0 {
		reached()(faultCommitted)
	}
}

// faultyStore is the store with points between its use cases.
type faultyStore struct{ *store.Store }

// acting is the store as what acts on it sees it.
func (s *server) acting() faultyStore { return faultyStore{s.store} }

func (f faultyStore) BeginIssue(ctx context.Context, worker string, lease time.Duration, starts []certctl.AttemptStart) ([]certctl.Attempt, error) {
	attempts, err := f.Store.BeginIssue(ctx, worker, lease, starts)
	if len(attempts) > 0 {
		reached()(faultIssueBegun)
	}
	return attempts, err
}

func (f faultyStore) FinishIssue(ctx context.Context, ends []certctl.AttemptEnd) ([]certctl.FinishResult, error) {
	reached()(faultIssueSigned)
	results, err := f.Store.FinishIssue(ctx, ends)
	reached()(faultIssueFinished)
	return results, err
}

func (f faultyStore) RecordReports(ctx context.Context, reports []certctl.AgentReport) ([]certctl.ReportAnswer, error) {
	answers, err := f.Store.RecordReports(ctx, reports)
	reached()(faultReportRecorded)
	return answers, err
}

func (f faultyStore) MailboxFor(ctx context.Context, asks []certctl.MailboxAsk) ([]certctl.MailboxWork, error) {
	work, err := f.Store.MailboxFor(ctx, asks)
	reached()(faultMailboxRead)
	return work, err
}

func (f faultyStore) ClaimDue(ctx context.Context, limit int, patience time.Duration) ([]certctl.Hint, error) {
	hints, err := f.Store.ClaimDue(ctx, limit, patience)
	if len(hints) > 0 {
		reached()(faultDueClaimed)
	}
	return hints, err
}
