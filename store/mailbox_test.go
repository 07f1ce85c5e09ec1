package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// asks is an agent's question in its first session.
func (w *world) asks(agent certctl.ID, installed ...certctl.Installed) certctl.MailboxWork {
	w.t.Helper()
	answers, err := w.MailboxFor(w.ctx, []certctl.MailboxAsk{{Agent: agent, Request: certctl.MailboxRequest{
		Session: certctl.ID{1}, MachineID: w.text(`select machine_id from agent where id = $1`, agent), Version: "1", Installed: installed,
	}}})
	if err != nil {
		w.t.Fatal(err)
	}
	if answers[0].Stop != "" {
		w.t.Fatalf("stopped: %s", answers[0].Stop)
	}
	return answers[0]
}

func (w *world) text(sql string, args ...any) string {
	w.t.Helper()
	var s string
	if err := w.Pool().QueryRow(w.ctx, sql, args...).Scan(&s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// deployed issues a certificate on a new target, as verified by its agent.
func (w *world) deployed(name string) (certctl.Certificate, certctl.Deployment) {
	w.t.Helper()
	w.target(name)
	c := w.submit(request("shop-"+name, name))
	w.issue(w.orders(c, "")[0])
	return c, w.deployments(c)[0]
}

// An agent that has lost what it had gets it again, under a higher number; one
// that has it gets nothing.
func TestWhatANodeHasLostIsSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, d := w.deployed("one")
	has := certctl.Installed{Binding: d.Binding, Version: d.Version, Number: 7}
	if box := w.asks(d.Agent); len(box.Installs) != 0 {
		t.Errorf("a report may be on its way, and it is sent again: %+v", box.Installs)
	}
	w.exec(`update deployment set updated_at = now() - interval '5 minutes'`)
	if box := w.asks(d.Agent, has); len(box.Installs) != 0 {
		t.Errorf("sent what is there: %+v", box.Installs)
	}
	box := w.asks(d.Agent)
	if len(box.Installs) != 1 || box.Installs[0].Deployment.ID != d.ID || box.Installs[0].Number <= has.Number || len(box.Targets) != 1 {
		t.Fatalf("box %+v", box)
	}
	if again := w.asks(d.Agent); len(again.Installs) != 1 || again.Installs[0].Number != box.Installs[0].Number {
		t.Errorf("asked again: %+v", again.Installs)
	}
	if got := w.get(c.ID); got.Status != certctl.StatusDeploying {
		t.Errorf("certificate %+v", got)
	}
	if n := w.count(`select count(*) from event where name = 'deployment_failed'`); n != 1 {
		t.Errorf("%d events", n)
	}
	w.consistent()
}

// A node that has seen higher numbers than the database, after a restore, gets
// higher ones still.
func TestNumbersRiseAboveWhatANodeHasSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	o := w.orders(c, "")[0]
	w.exec(`update cert_order set state = 'ready', wait = '' where id = $1`, o.ID)
	w.finish(w.success(w.begin("w", o.ID)[0], "shop.example.com"))
	d := w.deployments(c)[0]
	seen := time.Now().Add(time.Hour).UnixMicro()
	box := w.asks(d.Agent, certctl.Installed{Binding: d.Binding, Version: certctl.NewID(time.Now()), Number: seen})
	if len(box.Installs) != 1 || box.Installs[0].Number <= seen {
		t.Errorf("box %+v", box.Installs)
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	target := w.target("one")
	for n := range 80 {
		w.submit(request(fmt.Sprintf("c%d", n), "one"))
	}
	box := w.asks(target.Agent.ID)
	if len(box.Keys) < 10 || len(box.Keys) > 64 || !box.More {
		t.Errorf("%d commands, more %v", len(box.Keys), box.More)
	}
}

// What is unbound is forgotten by its agent, and stays forgotten.
func TestForgetting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, d := w.deployed("one")
	w.exec(`update binding set number = 7`)
	if _, err := w.UnbindTarget(w.ctx, w.admin, c.ID.String(), "one", true); err != nil {
		t.Fatal(err)
	}
	box := w.asks(d.Agent)
	if len(box.Forgets) != 1 || !box.Forgets[0].Remove || box.Forgets[0].Number <= 7 {
		t.Fatalf("box %+v", box.Forgets)
	}
	report := func(agent certctl.ID, number int64, code string) certctl.ReportAnswer {
		kind := certctl.ReportForgotten
		if code != "" {
			kind = certctl.ReportRefusal
		}
		answers, err := w.RecordReports(w.ctx, []certctl.AgentReport{{
			Statement: certctl.Statement{Agent: agent, Kind: kind, Object: d.Binding, Number: number}, Refusal: &certctl.Refusal{Code: code},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return answers[0]
	}
	number := box.Forgets[0].Number
	if a := report(w.agent("thief"), number, ""); a.Recorded || !a.Final {
		t.Errorf("another agent: %+v", a)
	}
	if a := report(d.Agent, number, "conflict"); !a.Recorded {
		t.Errorf("a refusal: %+v", a)
	}
	if box := w.asks(d.Agent); len(box.Forgets) != 0 {
		t.Errorf("asked again at once: %+v", box.Forgets)
	}
	if a := report(d.Agent, number, ""); !a.Recorded {
		t.Errorf("forgotten: %+v", a)
	}
	if box := w.asks(d.Agent); len(box.Forgets) != 0 {
		t.Errorf("asked after it has forgotten: %+v", box.Forgets)
	}
	w.consistent()
}

// A node whose policy refuses a key is asked again later; its order says why.
func TestARefusedKeyIsAskedForLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	target := w.target("one")
	c := w.submit(request("shop", "one"))
	key := w.asks(target.Agent.ID).Keys[0]
	answers, err := w.RecordReports(w.ctx, []certctl.AgentReport{{
		Statement: certctl.Statement{Agent: target.Agent.ID, Kind: certctl.ReportRefusal, Object: key.Order.ID, Number: key.Number},
		Refusal:   &certctl.Refusal{Code: "denied", Message: "the policy allows no such key"},
	}})
	if err != nil || !answers[0].Recorded {
		t.Fatalf("answers %+v, %v", answers, err)
	}
	o := w.orders(c, certctl.OrderAwaitingCSR)[0]
	if o.Wait != certctl.WaitBackoff || o.ErrorCode != "denied" || o.DueAt.Before(time.Now().Add(5*time.Minute)) {
		t.Errorf("order %+v", o)
	}
	if box := w.asks(target.Agent.ID); len(box.Keys) != 0 {
		t.Errorf("asked again at once: %+v", box.Keys)
	}
	w.exec(`update due set due_at = now() where id = $1`, o.ID)
	if _, err := w.ClaimDue(w.ctx, 10, time.Minute); err != nil {
		t.Fatal(err)
	}
	if box := w.asks(target.Agent.ID); len(box.Keys) != 1 || box.Keys[0].Number <= key.Number {
		t.Errorf("asked later: %+v", box.Keys)
	}
	w.consistent()
}

// A command that had ended by the node's clock, which has jumped, is given again
// within moments.
func TestACommandThatCameTooLateIsGivenAgainSoon(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	target := w.target("one")
	c := w.submit(request("shop", "one"))
	key := w.asks(target.Agent.ID).Keys[0]
	answers, err := w.RecordReports(w.ctx, []certctl.AgentReport{{
		Statement: certctl.Statement{Agent: target.Agent.ID, Kind: certctl.ReportRefusal, Object: key.Order.ID, Number: key.Number},
		Refusal:   &certctl.Refusal{Code: certctl.RefusalExpired, Message: "this command has ended"},
	}})
	if err != nil || !answers[0].Recorded {
		t.Fatalf("answers %+v, %v", answers, err)
	}
	if o := w.orders(c, certctl.OrderAwaitingCSR)[0]; o.Wait != certctl.WaitBackoff || o.DueAt.After(time.Now().Add(30*time.Second)) {
		t.Errorf("order %+v", o)
	}
	w.consistent()
}
