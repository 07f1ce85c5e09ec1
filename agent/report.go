package agent

import (
	"context"
	"sync"
	"time"

	"github.com/certctl/certctl"
)

// reportsAtOnce is how many reports are under way together; the server gathers
// them into one commit.
const reportsAtOnce = 32

// statement signs what the agent says.
func (a *Agent) statement(kind string, object certctl.ID, number int64, body any) (certctl.Statement, error) {
	return certctl.NewStatement(a.keys.signer(), certctl.Statement{
		Domain: certctl.DomainAgent, Installation: a.id.Installation, Agent: a.id.Agent,
		Kind: kind, Object: object, Number: number, Time: a.now(),
	}, body)
}

func reportChange(s certctl.Statement) Change { return Change{reportKey(s), reportRecord{s}} }

// commit journals what change returns, which may read the journal first: no
// other change comes in between. Then it wakes the sender of reports. Without a
// journal nothing may be done: a failure ends Run.
func (a *Agent) commit(change func() []Change) bool {
	a.records.Lock()
	err := a.journal.Commit(change()...)
	a.records.Unlock()
	if err != nil {
		select {
		case a.broken <- err:
		default:
		}
		return false
	}
	select {
	case a.reports <- struct{}{}:
	default:
	}
	return true
}

// refuse says that a command is not carried out, and why.
func (a *Agent) refuse(s certctl.Statement, code string, err error) {
	a.log.Warn().Str("command", label(s)).Str("code", code).Err(err).Msg("command not carried out")
	report, signErr := a.statement(certctl.ReportRefusal, s.Object, s.Number, refusalOf(code, err))
	if signErr != nil {
		a.problem("report", signErr)
		return
	}
	a.commit(func() []Change { return []Change{reportChange(report)} })
}

// sendReports repeats each report until the server has recorded it. It returns
// an error only when ctx ends or the journal cannot be written.
func (a *Agent) sendReports(ctx context.Context) error {
	failures := 0
	for {
		conn, changed, err := a.link.get(ctx)
		if err != nil {
			return err
		}
		left, pause, err := a.sendOnce(ctx, conn, failures)
		if err != nil {
			return err
		}
		if left == 0 {
			failures, changed = 0, nil
		} else {
			failures++
			pause = max(pause, a.pause(failures))
		}
		if !a.awaitReports(ctx, changed, left > 0, pause) {
			return ctx.Err()
		}
	}
}

// awaitReports waits for something to send: new reports, or, with some left
// over, the end of the pause or another connection.
func (a *Agent) awaitReports(ctx context.Context, changed <-chan struct{}, left bool, pause time.Duration) bool {
	var retry <-chan time.Time
	if left {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		retry = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-a.reports:
	case <-retry:
	case <-changed:
	}
	return true
}

// sendOnce sends everything that is to be reported. It returns how many reports
// are left, and the longest pause that the server asked for.
func (a *Agent) sendOnce(ctx context.Context, conn Courier, failures int) (left int, pause time.Duration, err error) {
	keys := a.journal.Keys("report/")
	for start := 0; start < len(keys); start += reportsAtOnce {
		batch := keys[start:min(start+reportsAtOnce, len(keys))]
		recorded, wait := a.sendBatch(ctx, conn, batch, failures)
		pause = max(pause, wait)
		if err := a.dropReports(recorded); err != nil {
			return len(keys), pause, err
		}
		if len(recorded) == 0 {
			return left + len(keys) - start, pause, nil // all would fail alike
		}
		left += len(batch) - len(recorded)
	}
	return left, pause, nil
}

// sendBatch sends reports together and returns those that are done with.
func (a *Agent) sendBatch(ctx context.Context, conn Courier, keys []string, failures int) (done []certctl.Statement, pause time.Duration) {
	var mu sync.Mutex // guards the results
	var group sync.WaitGroup
	for _, key := range keys {
		var record reportRecord
		if !a.journal.Get(key, &record) {
			continue // taken back meanwhile: done
		}
		group.Go(func() {
			a.at(FaultBeforeReport)
			ended, wait := a.send(ctx, conn, record.Statement, a.patience(failures))
			mu.Lock()
			defer mu.Unlock()
			if ended {
				done = append(done, record.Statement)
			}
			pause = max(pause, wait)
		})
	}
	group.Wait()
	if len(done) > 0 {
		a.at(FaultAfterReport)
	}
	return done, pause
}

// send sends one report and reports whether it need not be repeated.
func (a *Agent) send(ctx context.Context, conn Courier, s certctl.Statement, patience time.Duration) (done bool, pause time.Duration) {
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := conn.Report(call, s)
	switch {
	case ctx.Err() != nil:
		return false, 0
	case err != nil:
		a.problem("report", err)
		return false, retryAfter(err)
	}
	a.state.contact()
	if !answer.Recorded {
		a.log.Warn().Str("report", label(s)).Bool("final", answer.Final).Str("answer", certctl.Clip(answer.Message, 300)).Msg("report not recorded")
	}
	return answer.Recorded || answer.Final, time.Duration(answer.RetryAfter)
}

// journalFails returns when the journal cannot be written.
func (a *Agent) journalFails(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-a.broken:
		return err
	}
}

// dropReports forgets reports that are done with, unless a newer one has taken
// the place of such a one meanwhile.
func (a *Agent) dropReports(done []certctl.Statement) error {
	a.records.Lock()
	defer a.records.Unlock()
	var changes []Change
	for _, s := range done {
		var record reportRecord
		if a.journal.Get(reportKey(s), &record) && sameReport(record.Statement, s) {
			changes = append(changes, Change{reportKey(s), nil})
		}
	}
	return a.journal.Commit(changes...)
}

func refusalOf(code string, err error) certctl.Refusal {
	refusal := certctl.Refusal{Code: code, Message: safeMessage(err)}
	refusal.Remedy = remedyOf(err)
	return refusal
}
