package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// triedTarget is a target that can be tested.
type triedTarget struct {
	*memoryTarget
	tests []certctl.TestCommand // guarded by mu
}

func (m *triedTarget) Test(_ context.Context, command certctl.TestCommand) []certctl.TestStep {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tests = append(m.tests, command)
	return []certctl.TestStep{{Step: "check", State: certctl.StepOK, Message: "takes it"}}
}

func (n *node) testCommand(test certctl.ID, number int64) certctl.Statement {
	return n.order(certctl.CommandTest, test, number, certctl.TestCommand{Test: test, Target: certctl.ID{5}, NotAfter: time.Now().Add(time.Minute)})
}

func (n *node) webCommand() certctl.Statement {
	return n.order(certctl.CommandTarget, certctl.ID{5}, 1, certctl.TargetCommand{Target: certctl.ID{5}, Name: "web", Kind: "files", Settings: []byte("{}")})
}

// tested waits for the report of a test.
func (n *node) tested(test certctl.ID) certctl.TestReport {
	n.t.Helper()
	var report certctl.TestReport
	n.await("the report of a test", func() bool {
		for _, s := range n.reports(certctl.ReportTested) {
			if s.Object == test {
				return s.Decode(&report) == nil
			}
		}
		return false
	})
	return report
}

// A test is made once and told as often as it is asked for, and makes no key.
func TestATestIsMadeAndTold(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	tried := &triedTarget{memoryTarget: n.target}
	n.open = func(certctl.TargetCommand) (Target, error) { return tried, nil }
	n.start()
	n.mu.Lock()
	features := n.asked[0].Features
	n.mu.Unlock()
	if !slices.Contains(features, certctl.FeatureTest) {
		t.Errorf("features %v", features)
	}
	test := certctl.ID{9}
	n.put(n.conn, n.webCommand(), n.testCommand(test, 7))
	report := n.tested(test)
	if report.Target != (certctl.ID{5}) || len(report.Steps) != 2 || report.Steps[0].Step != "policy" || report.Steps[1].Message != "takes it" {
		t.Errorf("report %+v", report)
	}
	n.putUntil(n.conn, "the same report once more", func() bool { return len(n.reports(certctl.ReportTested)) > 1 },
		n.webCommand(), n.testCommand(test, 7))
	tried.mu.Lock()
	made, batches := len(tried.tests), len(tried.batches)
	tried.mu.Unlock()
	if made != 1 || batches != 0 {
		t.Errorf("%d tests, %d installations", made, batches)
	}
	if keys, err := os.ReadDir(filepath.Join(n.dir, "keys")); err != nil || len(keys) != 0 {
		t.Errorf("keys %v, %v", keys, err)
	}
	n.put(n.conn, n.webCommand(), n.testCommand(certctl.ID{10}, 8))
	n.tested(certctl.ID{10})
}

// What the policy does not allow is said line by line, and the target is not opened.
func TestATestNamesAllThatThePolicyDenies(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.open = func(certctl.TargetCommand) (Target, error) { return nil, n.policy.AllowDirectory("/srv/tls") }
	n.start()
	n.running.targets.Denied = func(certctl.TargetCommand) []error {
		return []error{n.policy.AllowDirectory("/srv/tls"), n.policy.AllowCommand([]string{"/bin/check"})}
	}
	n.put(n.conn, n.webCommand(), n.testCommand(certctl.ID{9}, 1))
	steps := n.tested(certctl.ID{9}).Steps
	if len(steps) != 2 || steps[0].State != certctl.StepFails || steps[0].Remedy == "" || steps[1].Message == steps[0].Message {
		t.Errorf("steps %+v", steps)
	}
	n.put(n.conn, n.webCommand(), n.testCommand(certctl.ID{10}, 2))
	n.tested(certctl.ID{10})
}

// A kind that the policy denies is said once, also where nothing else is denied.
func TestATestNamesADeniedKindOnce(t *testing.T) {
	t.Parallel()
	for name, also := range map[string]bool{"alone": false, "with more": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := enrolled(t)
			n.policy.Kinds = []string{"nginx"}
			n.start()
			n.running.targets.Denied = func(certctl.TargetCommand) []error {
				if also {
					return []error{n.policy.AllowCommand([]string{"/bin/check"})}
				}
				return nil
			}
			n.put(n.conn, n.webCommand(), n.testCommand(certctl.ID{9}, 1))
			steps := n.tested(certctl.ID{9}).Steps
			if want := map[bool]int{false: 1, true: 2}[also]; len(steps) != want || steps[0].State != certctl.StepFails || !strings.Contains(steps[0].Message, "files") {
				t.Errorf("steps %+v", steps)
			}
		})
	}
}

// A test that comes too late is refused, and the server told.
func TestALateTestIsRefused(t *testing.T) {
	t.Parallel()
	n := enrolled(t)
	n.start()
	late := n.order(certctl.CommandTest, certctl.ID{9}, 1, certctl.TestCommand{Test: certctl.ID{9}, Target: certctl.ID{5}, NotAfter: time.Now().Add(-time.Minute)})
	n.put(n.conn, n.webCommand(), late)
	n.await("a refusal", func() bool { return len(n.reports(certctl.ReportRefusal)) > 0 })
	var refusal certctl.Refusal
	if s := n.reports(certctl.ReportRefusal)[0]; s.Decode(&refusal) != nil || s.Object != (certctl.ID{9}) || refusal.Code != certctl.RefusalExpired {
		t.Errorf("refusal %+v", refusal)
	}
}

// A report that the bus would not carry leaves out what is well.
func TestReportsOfTestsFit(t *testing.T) {
	t.Parallel()
	bad := certctl.TestStep{Step: "listener", State: certctl.StepFails, Message: strings.Repeat("x", 100)}
	good := bad
	good.State = certctl.StepOK
	for _, n := range []int{10, 10000} {
		steps := fitting(append(slices.Repeat([]certctl.TestStep{good}, n), bad))
		size, fails := 0, 0
		for _, s := range steps {
			size += stepSize(s)
			if s.State == certctl.StepFails {
				fails++
			}
		}
		cut := steps[len(steps)-1].Step == "report"
		if size > maxTestReport+1000 || len(steps) > certctl.MaxTestSteps || fails != 1 || cut != (n > 1000) {
			t.Errorf("%d: %d steps of %d bytes, %d fail, cut: %t", n, len(steps), size, fails, cut)
		}
	}
	if steps := fitting(slices.Repeat([]certctl.TestStep{bad}, 10000)); len(steps) > certctl.MaxTestSteps {
		t.Errorf("%d steps", len(steps))
	}
}
