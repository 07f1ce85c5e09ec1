package agent

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"time"

	"github.com/certctl/certctl"
)

// maxInstalled bounds a mailbox request: the bus carries 256 KiB. Of more
// bindings the ones that changed last are told; for the others the server may
// ask again what was done, and is answered from the journal.
const maxInstalled = 1000

// askMailbox asks for work on each connection, on each bell, and after the
// pause that the server names; what happens meanwhile makes one further request.
// It returns a StoppedError when the server ended the session.
func (a *Agent) askMailbox(ctx context.Context) error {
	failures := 0
	for {
		conn, changed, err := a.link.get(ctx)
		if err != nil {
			return err
		}
		again, pause, err := a.askOnce(ctx, conn, failures)
		var stopped *StoppedError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stopped):
			return err
		case err != nil:
			failures++
			a.problem("mailbox", err)
			pause = max(a.pause(failures), retryAfter(err))
			// The log-in, the addresses or the CA may be stale; HTTPS has new ones.
			if failures == 3 || failures%32 == 0 {
				a.credentials.Renew()
			}
		default:
			failures = 0
		}
		if !a.awaitReason(ctx, conn, changed, again, pause) {
			return ctx.Err()
		}
	}
}

// awaitReason waits for a reason to ask and reports whether ctx still lives.
func (a *Agent) awaitReason(ctx context.Context, conn Conn, changed <-chan struct{}, again bool, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	settled := a.lanes.settled
	if !again {
		settled = nil
	}
	bells := conn.Bells()
	for {
		select {
		case <-ctx.Done():
			return false
		case _, open := <-bells:
			if open {
				return true
			}
			bells = nil // the connection is closed; another one follows
		case <-settled:
			return true
		case <-a.drift.news:
			return true
		case <-changed:
			return true
		case <-timer.C:
			return true
		}
	}
}

// patience is how long a request may take after so many failures in a row. Who
// was to answer the first one may have died with it, and another one answers
// the second; a server that is slow gets its time by and by.
func (a *Agent) patience(failures int) time.Duration {
	return min(a.callFirst<<min(failures, 10), callTimeout)
}

// pause is how long to wait after so many failures in a row, at least one: after
// the first one hardly at all, for the same reason.
func (a *Agent) pause(failures int) time.Duration {
	if failures == 1 {
		return spread(1, a.retryUnit/30)
	}
	return spread(failures-1, a.retryUnit)
}

// askOnce asks, hands the work out, and returns whether the answer was cut and
// how long to wait.
func (a *Agent) askOnce(ctx context.Context, conn Conn, failures int) (again bool, pause time.Duration, err error) {
	request, err := a.statement(certctl.ReportMailbox, certctl.NoID, 0, a.mailboxRequest())
	if err != nil {
		return false, askMost, err
	}
	call, cancel := context.WithTimeout(ctx, a.patience(failures))
	defer cancel()
	answer, err := conn.Mailbox(call, request)
	if err != nil {
		return false, askMost, err
	}
	a.state.contact()
	if answer.Stop != "" {
		return false, 0, &StoppedError{Reason: certctl.Clip(answer.Stop, 500)}
	}
	select { // of an earlier answer
	case <-a.lanes.settled:
	default:
	}
	a.handle(answer)
	a.tidyNowAndThen()
	pause = min(max(time.Duration(answer.NextAfter), askLeast), askMost)
	if answer.NextAfter == 0 {
		pause = askMost
	}
	if answer.More && a.lanes.idle() {
		pause = askLeast // nothing of it made work
	}
	return answer.More, pause - rand.N(pause/10+1), nil
}

// mailboxRequest says what is in place.
func (a *Agent) mailboxRequest() certctl.MailboxRequest {
	request := certctl.MailboxRequest{
		Session: a.session, MachineID: a.machine, Version: a.version, Capabilities: a.capabilities(), Features: features(),
		TrustVersion: a.trust.Document().Version, Proving: a.proving(),
	}
	type dated struct {
		certctl.Installed
		at time.Time
	}
	var all []dated
	for _, key := range a.journal.Keys("binding/") {
		var record bindingRecord
		if a.journal.Get(key, &record) && !record.Forgotten {
			installed := certctl.Installed{Binding: idOf(key), Version: record.Version, Number: record.Number}
			installed.Drift = a.drift.of(installed.Binding)
			all = append(all, dated{installed, record.At})
		}
	}
	if len(all) > maxInstalled {
		slices.SortFunc(all, func(x, y dated) int { return cmp.Compare(y.at.UnixNano(), x.at.UnixNano()) })
		all = all[:maxInstalled]
	}
	for _, one := range all {
		request.Installed = append(request.Installed, one.Installed)
	}
	return request
}

// handle takes an answer: trust first, since it may name the keys of the
// commands; then targets, since installations need them; then the work.
func (a *Agent) handle(answer certctl.Mailbox) {
	if answer.Trust != nil {
		a.acceptTrust(*answer.Trust)
	}
	var targets []certctl.Statement
	var jobs []job
	for _, s := range answer.Commands {
		if err := a.verify(s); err != nil {
			a.refusedCommand(s, err)
			continue
		}
		if s.Kind == certctl.CommandInventory {
			a.tellInventory(s)
			continue
		}
		if s.Kind == certctl.CommandTarget {
			targets = append(targets, s)
			continue
		}
		j, err := a.decode(s)
		switch {
		case certctl.ErrorCode(err) == codeExpired:
			a.refuse(s, certctl.RefusalExpired, err)
		case err != nil:
			a.refusedCommand(s, err)
		default:
			jobs = append(jobs, j)
		}
	}
	a.recordTargets(targets)
	a.lanes.put(slices.DeleteFunc(jobs, a.answered))
}

func (a *Agent) acceptTrust(s certctl.Statement) {
	newer, err := a.trust.Accept(s)
	switch {
	case err != nil:
		a.state.forged()
		a.log.Warn().Err(err).Msg("trust document refused")
	case newer:
		a.log.Info().Int64("trust_version", a.trust.Document().Version).Msg("trust document taken over")
		a.trusted()
	}
}

// refusedCommand notes a command that nobody who may command us made, or that
// makes no sense. It is not answered: an answer would be to its forger.
func (a *Agent) refusedCommand(s certctl.Statement, err error) {
	a.state.forged()
	a.log.Warn().Str("command", certctl.Clip(label(s), 100)).Err(err).Msg("command refused")
}

// recordTargets keeps newer descriptions of targets.
func (a *Agent) recordTargets(statements []certctl.Statement) {
	if len(statements) == 0 {
		return
	}
	if a.commit(func() []Change { return a.targetChanges(statements) }) {
		a.at(FaultTargetRecorded)
	}
}

func (a *Agent) targetChanges(statements []certctl.Statement) (changes []Change) {
	for _, s := range statements {
		var command certctl.TargetCommand
		if err := s.Decode(&command); err != nil || command.Target != s.Object || command.Target.IsZero() {
			a.refusedCommand(s, certctl.Errorf(certctl.Invalid, "this is not a target"))
			continue
		}
		var known targetRecord
		found := a.journal.Get(targetKey(command.Target), &known)
		older := s.Number < known.Number || s.Number == known.Number && !s.Time.After(known.Time)
		if found && (older || s.Number == known.Number && reflect.DeepEqual(command, known.Command)) {
			continue
		}
		changes = append(changes, Change{targetKey(command.Target), targetRecord{s.Number, s.Time, command}})
	}
	return changes
}

// answered reports whether the journal knows the answer to a command, or that a
// newer one has been carried out. The stored answer is given again.
func (a *Agent) answered(j job) bool {
	switch {
	case j.key != nil:
		return a.askedAgain(j.key.Order)
	case j.erase != nil:
		return false // to make sure once more costs nothing
	case j.test != nil:
		return a.tested.told(a, j.test)
	}
	if j.share != nil || j.prove != nil {
		return false // to do it once more does no harm
	}
	var record bindingRecord
	if !a.journal.Get(bindingKey(j.subject()), &record) || j.statement.Number > record.Number {
		return false
	}
	if j.statement.Number == record.Number {
		a.commit(func() []Change { return []Change{reportChange(record.Answer)} })
	}
	return true
}

// askedAgain reports the CSR of an order anew, if there is one.
func (a *Agent) askedAgain(order certctl.ID) (known bool) {
	return a.commit(func() []Change {
		var record orderRecord
		if known = a.journal.Get(orderKey(order), &record); !known {
			return nil
		}
		record.Asked = a.now()
		return []Change{{orderKey(order), record}, reportChange(record.Report)}
	}) && known
}

// retryAfter is the pause that the server asked for, if it did.
func retryAfter(err error) time.Duration {
	var ours *certctl.Error
	if errors.As(err, &ours) {
		return ours.RetryAfter
	}
	return 0
}
