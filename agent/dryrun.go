package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/certctl/certctl"
)

// Tester is a target that can say how an installation would end, and changes
// nothing for it.
type Tester interface {
	Test(ctx context.Context, command certctl.TestCommand) []certctl.TestStep
}

// features are what this agent can be asked for that older ones do not know.
func features() []string { return []string{certctl.FeatureTest} }

// tested are the newest tests by target. They are not journalled: one that is asked
// for again after a restart is made again, which changes nothing.
type tested struct {
	mu     sync.Mutex
	report map[certctl.ID]certctl.Statement // guarded by mu
}

// told reports whether a test was made, and says again what came of it.
func (t *tested) told(a *Agent, c *certctl.TestCommand) bool {
	t.mu.Lock()
	report, known := t.report[c.Target]
	t.mu.Unlock()
	if !known || report.Object != c.Test {
		return false
	}
	a.commit(func() []Change { return []Change{reportChange(report)} })
	return true
}

func (t *tested) remember(c *certctl.TestCommand, report certctl.Statement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.report == nil {
		t.report = map[certctl.ID]certctl.Statement{}
	}
	t.report[c.Target] = report
}

// test tries a target, or says why it cannot be opened.
func (a *Agent) test(target Target, refused error, j job) {
	var steps []certctl.TestStep
	switch tester, can := target.(Tester); {
	case refused != nil:
		steps = a.refusedSteps(j.test.Target, refused)
	case !can:
		steps = []certctl.TestStep{{
			Step: "command", State: certctl.StepFails, Message: "targets of this kind cannot be tested without a change",
		}}
	default:
		steps = append([]certctl.TestStep{{
			Step: "policy", Subject: a.policy.Source(), State: certctl.StepOK, Message: "allows all that this target needs",
		}}, tester.Test(a.workCtx, *j.test)...)
	}
	if a.workCtx.Err() != nil {
		return // it is still open, and asked for again
	}
	report, err := a.statement(certctl.ReportTested, j.test.Test, j.statement.Number, certctl.TestReport{
		Target: j.test.Target, Steps: fitting(steps), At: a.now().UTC(),
	})
	if err != nil {
		a.problem("report", err)
		return
	}
	a.tested.remember(j.test, report)
	a.log.Info().Stringer("target", j.test.Target).Int("steps", len(steps)).Msg("target tested")
	a.commit(func() []Change { return []Change{reportChange(report)} })
}

// maxTestReport bounds a report in bytes, before it is encoded: the bus carries
// 256 KiB.
const maxTestReport = 120 << 10

// fitting leaves steps out that are ok, from the last one on, until a report can be
// sent, and says so.
func fitting(steps []certctl.TestStep) []certctl.TestStep {
	size := 0
	for _, s := range steps {
		size += stepSize(s)
	}
	left := 0
	for i := len(steps) - 1; i >= 0 && (size > maxTestReport || len(steps) >= certctl.MaxTestSteps); i-- {
		if steps[i].State == certctl.StepOK {
			size -= stepSize(steps[i])
			steps = slices.Delete(steps, i, i+1)
			left++
		}
	}
	for size > maxTestReport || len(steps) >= certctl.MaxTestSteps {
		size -= stepSize(steps[len(steps)-1])
		steps = steps[:len(steps)-1]
		left++
	}
	if left == 0 {
		return steps
	}
	return append(steps, certctl.TestStep{
		Step: "report", State: certctl.StepSkipped, Message: fmt.Sprintf("%d of the steps did not fit into one report", left),
	})
}

// stepSize is about what a step takes.
func stepSize(s certctl.TestStep) int {
	return 130 + len(s.Step) + len(s.Subject) + len(s.Message) + len(s.Remedy)
}

// refusedSteps say why a target cannot be opened: all that the policy does not
// allow, so that its owner need not find out line by line.
func (a *Agent) refusedSteps(id certctl.ID, refused error) []certctl.TestStep {
	var record targetRecord
	errs := []error{refused}
	if a.journal.Get(targetKey(id), &record) && a.targets.Denied != nil && certctl.ErrorCode(refused) == certctl.Denied {
		spec := record.Command
		spec.Secrets = nil
		all := a.targets.Denied(spec)
		if err := a.policy.AllowKind(spec.Kind); err != nil {
			all = append([]error{err}, all...)
		}
		if len(all) > 0 {
			errs = all
		}
	}
	step := "policy"
	if certctl.ErrorCode(refused) != certctl.Denied {
		step = "settings"
	}
	var steps []certctl.TestStep
	for _, err := range errs {
		steps = append(steps, certctl.TestStep{
			Step: step, Subject: a.policy.Source(), State: certctl.StepFails, Message: safeMessage(err), Remedy: remedyOf(err),
		})
	}
	return steps
}
