package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// trying is a target on an agent that can test it.
type trying struct {
	*world
	agent  certctl.ID
	target certctl.Target
}

func newTrying(t *testing.T) *trying {
	t.Helper()
	w := newWorld(t)
	x := &trying{world: w, agent: w.agent("node")}
	x.target = w.targetOn("web", "node")
	x.asksAs("1.0", certctl.FeatureTest)
	return x
}

// asksAs is a question of an agent of a version with features.
func (x *trying) asksAs(version string, features ...string) certctl.MailboxWork {
	x.t.Helper()
	answers, err := x.MailboxFor(x.ctx, []certctl.MailboxAsk{{Agent: x.agent, Request: certctl.MailboxRequest{
		Session: certctl.ID{1}, MachineID: "node", Version: version, Features: features,
	}}})
	if err != nil || answers[0].Stop != "" {
		x.t.Fatal(answers, err)
	}
	return answers[0]
}

func (x *trying) test() certctl.TargetTest {
	x.t.Helper()
	test, err := x.TestTarget(x.ctx, x.admin, "web")
	if err != nil {
		x.t.Fatal(err)
	}
	return test
}

// newest is the test that the target shows.
func (x *trying) newest() certctl.TargetTest {
	x.t.Helper()
	target, err := x.GetTarget(x.ctx, x.admin, "web")
	if err != nil {
		x.t.Fatal(err)
	}
	return target.Test
}

func (x *trying) says(by certctl.ID, work certctl.TestWork, steps ...certctl.TestStep) certctl.ReportAnswer {
	x.t.Helper()
	return x.report(certctl.AgentReport{
		Statement: certctl.Statement{Agent: by, Kind: certctl.ReportTested, Object: work.ID, Number: work.Number},
		Tested:    &certctl.TestReport{Target: work.Target.ID, Steps: steps},
	})
}

// A test goes to its agent with the target and what is bound to it, until the agent
// has answered; its word is kept until the next test.
func TestTargetsAreTestedByTheirAgents(t *testing.T) {
	t.Parallel()
	x := newTrying(t)
	x.submit(request("shop", "web"))
	x.hinted("")
	asked := x.test()
	if rung := x.hinted(certctl.HintBell); !slices.Equal(rung, []certctl.ID{x.agent}) || asked.State(time.Now()) != certctl.TestPending {
		t.Errorf("rung %v, test %+v", rung, asked)
	}
	x.consistent()
	for range 2 { // an answer may be lost
		box := x.asksAs("1.0", certctl.FeatureTest)
		if len(box.Tests) != 1 || box.Tests[0].ID != asked.ID || len(box.Targets) != 1 || len(box.Tests[0].Places) != 1 ||
			box.Tests[0].Places[0].Place != "shop" || box.Tests[0].Places[0].Names.DNS[0] != "shop.example.com" {
			t.Fatalf("sent %+v with %+v", box.Tests, box.Targets)
		}
	}
	work := x.asksAs("1.0", certctl.FeatureTest).Tests[0]
	fails := certctl.TestStep{Step: "check", Subject: "nginx -t", State: certctl.StepFails, Message: "no such directive", Remedy: "mend it"}
	if answer := x.says(x.world.agent("other"), work, fails); answer.Recorded || !answer.Final {
		t.Errorf("another agent's word counted: %+v", answer)
	}
	old := work
	old.Number--
	if answer := x.says(x.agent, old, fails); answer.Recorded || !answer.Final {
		t.Errorf("an old word counted: %+v", answer)
	}
	for range 2 {
		if answer := x.says(x.agent, work, fails); !answer.Recorded {
			t.Errorf("answer %+v", answer)
		}
	}
	if got := x.newest(); got.State(time.Now()) != certctl.TestFailed || !slices.Equal(got.Steps, []certctl.TestStep{fails}) || len(got.Receipt) == 0 {
		t.Errorf("recorded %+v", got)
	}
	if n := x.count(`select count(*) from event where name = 'target_tested'`); n != 1 {
		t.Errorf("%d events", n)
	}
	if box := x.asksAs("1.0", certctl.FeatureTest); len(box.Tests) != 0 {
		t.Errorf("sent again: %+v", box.Tests)
	}
	x.consistent()
	if next := x.test(); next.ID == asked.ID || x.newest().ID != next.ID || len(x.newest().Steps) != 0 {
		t.Errorf("the next test: %+v", x.newest())
	}
	if answer := x.says(x.agent, work, fails); answer.Recorded || !answer.Final {
		t.Errorf("the word on an earlier test counted: %+v", answer)
	}
	x.consistent()
}

// Who cannot test targets is not asked: nobody would answer.
func TestAnAgentThatCannotTestIsNotAsked(t *testing.T) {
	t.Parallel()
	x := newTrying(t)
	x.test()
	if box := x.asksAs("0.9"); len(box.Tests) != 0 { // it was replaced by an older one
		t.Errorf("sent %+v", box.Tests)
	}
	_, err := x.TestTarget(x.ctx, x.admin, "web")
	if certctl.ErrorCode(err) != certctl.Conflict || !strings.Contains(err.Error(), "0.9") {
		t.Errorf("an older agent: %v", err)
	}
	x.target = x.world.target("silent")
	if _, err := x.TestTarget(x.ctx, x.admin, "silent"); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("an agent that was never heard of: %v", err)
	}
	if _, err := x.TestTarget(x.ctx, x.member("default", certctl.RoleViewer), "web"); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("a viewer: %v", err)
	}
	x.consistent()
}

// A request that nobody has answered ends by itself, and no agent is rung for it.
func TestOldTestsEnd(t *testing.T) {
	t.Parallel()
	x := newTrying(t)
	x.test()
	x.exec(`update target_test set not_after = now() - interval '1 second'`)
	x.exec(`update due set due_at = now() where kind = 'test'`)
	if box := x.asksAs("1.0", certctl.FeatureTest); len(box.Tests) != 0 {
		t.Errorf("sent %+v", box.Tests)
	}
	if _, err := x.ClaimDue(x.ctx, 10, time.Minute); err != nil {
		t.Fatal(err)
	}
	if n := x.count(`select count(*) from due where kind = 'test'`); n != 0 {
		t.Errorf("%d tests are due", n)
	}
	if state := x.newest().State(time.Now()); state != certctl.TestExpired {
		t.Errorf("state %s", state)
	}
	x.consistent()
}

// A target with very many places is tested with as many as fit.
func TestManyPlacesAreBounded(t *testing.T) {
	t.Parallel()
	var places []certctl.TestPlace
	for i := range 3 * certctl.MaxTestPlaces {
		places = append(places, certctl.TestPlace{Certificate: fmt.Sprint("c", i), Place: fmt.Sprint("c", i), Names: certctl.Names{DNS: []string{fmt.Sprint(i, ".example.com")}}})
	}
	few, small := certctl.TestWork{}, certctl.TestWork{}
	few.Fit(places, 1<<20)
	small.Fit(places, 5000)
	if len(few.Places) != certctl.MaxTestPlaces || few.Left != 2*certctl.MaxTestPlaces {
		t.Errorf("%d places, %d left", len(few.Places), few.Left)
	}
	if n := len(small.Places); n == 0 || n > 12 || small.Left != len(places)-n {
		t.Errorf("%d places, %d left", n, small.Left)
	}
}

// A report locks the test before it is due, and so does who asks for the next one:
// else each could hold what the other waits for.
func TestTheNextTestWaitsForAReportOfTheFormer(t *testing.T) {
	t.Parallel()
	x := newTrying(t)
	x.test()
	report, err := x.Pool().Begin(x.ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer report.Rollback(x.ctx)
	if _, err := report.Exec(x.ctx, `select from target_test for no key update`); err != nil {
		t.Fatal(err)
	}
	next := make(chan error, 1)
	go func() {
		_, err := x.TestTarget(x.ctx, x.admin, "web")
		next <- err
	}()
	for x.count(`select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == 0 {
		select {
		case err := <-next:
			t.Fatalf("the next test did not wait: %v", err)
		default:
		}
	}
	if tag, err := report.Exec(x.ctx, `select from due where kind = 'test' for update nowait`); err != nil || tag.RowsAffected() != 1 {
		t.Errorf("what is due is locked by who waits for the test: %s, %v", tag, err)
	}
	if err := errors.Join(report.Rollback(x.ctx), <-next); err != nil {
		t.Error(err)
	}
	x.consistent()
}

// A target of the default team serves others, too: what its test says of a
// certificate is for who may read that certificate.
func TestATestShowsNoCertificateOfOthers(t *testing.T) {
	t.Parallel()
	x := newTrying(t)
	x.team("red")
	for team, name := range map[string]string{"default": "shop", "red": "secret"} {
		r := request(name, "web")
		r.Team = team
		x.submit(r)
	}
	x.test()
	work := x.asksAs("1.0", certctl.FeatureTest).Tests[0]
	x.says(x.agent, work,
		certctl.TestStep{Step: "directory", Subject: "/live", State: certctl.StepOK, Message: "can be written"},
		certctl.TestStep{Step: "place", Subject: "/live/shop", State: certctl.StepOK, Message: "for shop"},
		certctl.TestStep{Step: "place", Subject: "/live/secret", State: certctl.StepFails, Message: "for secret", Remedy: "redeploy secret"},
		certctl.TestStep{Step: "listener", Subject: "[::1]:443 secret.example.com", State: certctl.StepOK, Message: "serves something"})
	target, err := x.GetTarget(x.ctx, x.member("default", certctl.RoleViewer), "web")
	said := fmt.Sprint(target.Test.Steps)
	if err != nil || len(target.Test.Steps) != 4 || strings.Contains(said, "secret") || !strings.Contains(said, "/live/shop") ||
		!strings.Contains(said, "can be written") || target.Test.State(time.Now()) != certctl.TestFailed {
		t.Errorf("a viewer of the team sees %s, %v", said, err)
	}
	if said := fmt.Sprint(x.newest().Steps); !strings.Contains(said, "redeploy secret") {
		t.Errorf("the admin sees %s", said)
	}
}

// A step that names its binding is told by that, and not by words that are somebody
// else's by chance.
func TestATestIsShownByItsBindings(t *testing.T) {
	t.Parallel()
	x := newTrying(t)
	x.team("red")
	for team, name := range map[string]string{"default": "shop-eu", "red": "shop"} {
		r := request(name, "web")
		r.Team = team
		x.submit(r)
	}
	x.test()
	work := x.asksAs("1.0", certctl.FeatureTest).Tests[0]
	binding := map[string]certctl.ID{}
	for _, p := range work.Places {
		binding[p.Certificate] = p.Binding
	}
	if len(binding) != 2 || binding["shop"].IsZero() || binding["shop-eu"].IsZero() {
		t.Fatalf("places %+v", work.Places)
	}
	x.says(x.agent, work,
		certctl.TestStep{Step: "place", Subject: "/live/shop-eu", State: certctl.StepOK, Message: "for shop-eu", Binding: binding["shop-eu"]},
		certctl.TestStep{Step: "place", Subject: "/live/another", State: certctl.StepOK, Message: "of the red team", Binding: binding["shop"]},
		certctl.TestStep{Step: "check", Subject: "nginx -t", State: certctl.StepFails, Message: "cannot load /live/shop/current/cert.pem"},
		certctl.TestStep{Step: "listener", Subject: "[::1]:443", State: certctl.StepOK, Message: "serves shop", Binding: certctl.ID{9}})
	target, err := x.GetTarget(x.ctx, x.member("default", certctl.RoleViewer), "web")
	if err != nil {
		t.Fatal(err)
	}
	for i, hidden := range []bool{false, true, true, true} {
		step := target.Test.Steps[i]
		if (step.Message == "about a certificate that you may not read") != hidden || hidden && (step.Subject != "" || !step.Binding.IsZero()) {
			t.Errorf("step %d: %+v", i, step)
		}
	}
	if got := x.newest().Steps; got[0].Binding != binding["shop-eu"] || got[1].Message != "of the red team" {
		t.Errorf("the admin sees %+v", got)
	}
}
