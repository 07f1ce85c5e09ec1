package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func proofOf(name, token string) certctl.Proof {
	return certctl.Proof{Type: certctl.ProofHTTP, Identifier: name, Token: token, Answer: token + ".print"}
}

// proving is an order at a CA whose proofs one and two are to hold.
type proving struct {
	*world
	order    certctl.Order
	attempt  certctl.Attempt
	one, two certctl.ID
	proofs   []certctl.Proof
}

func newProving(t *testing.T) *proving {
	t.Helper()
	w := newWorld(t)
	p := &proving{world: w, one: w.agent("one"), two: w.agent("two"), proofs: []certctl.Proof{proofOf("shop.example.com", "t1")}}
	_, p.order = w.clientOrder("shop")
	p.attempt = w.begin("w", p.order.ID)[0]
	if !w.holds(w.account(), p.order, "shop") {
		t.Fatal("the names are not held")
	}
	return p
}

func (p *proving) put(by certctl.Answerers) error {
	return p.PutNodeProofs(p.ctx, p.order.ID, []certctl.NodeProofs{{By: by, Proofs: p.proofs}})
}

func (p *proving) mustPut() {
	p.t.Helper()
	if err := p.put(certctl.Answerers{Names: []string{"one", "two"}}); err != nil {
		p.t.Fatal(err)
	}
}

// asks returns what an agent is to hold or to drop, given what it holds.
func (p *proving) asksHolding(agent certctl.ID, session byte, held ...certctl.ID) []certctl.ProveWork {
	p.t.Helper()
	answers, err := p.MailboxFor(p.ctx, []certctl.MailboxAsk{{Agent: agent, Time: time.Now(), Request: certctl.MailboxRequest{
		Session: certctl.ID{session}, MachineID: p.text(`select machine_id from agent where id = $1`, agent), Version: "1", Proving: held,
	}}})
	if err != nil || answers[0].Stop != "" {
		p.t.Fatal(answers, err)
	}
	return answers[0].Proves
}

// says is an agent's word on proofs.
func (p *proving) says(agent certctl.ID, work certctl.ProveWork, refusal *certctl.Refusal) certctl.ReportAnswer {
	p.t.Helper()
	s := certctl.Statement{Agent: agent, Kind: certctl.ReportHeld, Object: work.Set, Number: work.Number}
	return p.report(certctl.AgentReport{Statement: s, Held: refusal == nil, Refusal: refusal})
}

func (p *proving) waits(reason certctl.WaitReason) {
	p.t.Helper()
	p.finish(pause(p.attempt, reason, time.Hour))
	p.hinted("")
}

func (p *proving) goesOn() bool {
	p.t.Helper()
	jobs, err := p.ReadyOrders(p.ctx, []certctl.ID{p.order.ID})
	if err != nil {
		p.t.Fatal(err)
	}
	return len(jobs) == 1
}

// An order goes on when all of its agents hold its proofs, and not before.
func TestProofsGoToTheirAgents(t *testing.T) {
	t.Parallel()
	p := newProving(t)
	p.hinted("")
	p.mustPut()
	if rung := p.hinted(certctl.HintBell); len(rung) != 2 {
		t.Errorf("rung: %v", rung)
	}
	p.consistent()
	p.waits(certctl.WaitNodes)
	first := p.asksHolding(p.one, 1)
	if len(first) != 1 || len(first[0].Proofs) != 1 || first[0].Proofs[0] != p.proofs[0] || first[0].Number == 0 {
		t.Fatalf("sent %+v", first)
	}
	if again := p.asksHolding(p.one, 1, first[0].Set); len(again) != 1 || again[0].Number != first[0].Number {
		t.Errorf("until its report is recorded it may have been lost: %+v", again)
	}
	if answer := p.says(p.two, first[0], nil); answer.Recorded || !answer.Final {
		t.Errorf("another agent's word counted: %+v", answer)
	}
	if answer := p.says(p.one, certctl.ProveWork{Set: first[0].Set, Number: 1}, nil); answer.Recorded || !answer.Final {
		t.Errorf("an old word counted: %+v", answer)
	}
	for range 2 { // a repeated one is answered like the first
		if answer := p.says(p.one, first[0], nil); !answer.Recorded {
			t.Errorf("answer %+v", answer)
		}
	}
	if work := p.asksHolding(p.one, 1, first[0].Set); len(work) != 0 || p.goesOn() {
		t.Errorf("sent again: %+v; goes on before all agents hold the proofs: %t", work, p.goesOn())
	}
	if work := p.asksHolding(p.one, 1); len(work) != 1 {
		t.Errorf("what it has lost is not sent: %+v", work)
	}
	nodes, err := p.NodeProofs(p.ctx, p.order.ID)
	if err != nil || len(nodes) != 2 || !nodes[0].Held || nodes[0].Offline || nodes[1].Held || !nodes[1].Offline || nodes[1].Agent.Name != "two" {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
	p.consistent()
	second := p.asksHolding(p.two, 1)
	p.hinted("")
	if answer := p.says(p.two, second[0], nil); !answer.Recorded {
		t.Errorf("answer %+v", answer)
	}
	if hinted := p.hinted(certctl.HintIssue); len(hinted) != 1 || hinted[0] != p.order.ID || !p.goesOn() {
		t.Errorf("it does not go on; hinted %v", hinted)
	}
	p.mustPut() // by a worker that comes after one that died: nothing is asked again
	if rung := p.hinted(certctl.HintBell); len(rung) != 0 {
		t.Errorf("rung again: %v", rung)
	}
	p.consistent()
}

// When the CA has seen the proofs the agents are rung, and told to drop them when
// they ask, as often as they say that they hold them.
func TestProofsAreTakenBack(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]func(p *proving) error{
		"seen":      func(p *proving) error { return p.RemoveChallengeTokens(p.ctx, p.order.ID) },
		"cancelled": func(p *proving) error { _, err := p.CancelOrder(p.ctx, p.admin, p.order.ID); return err },
		"issued":    func(p *proving) error { p.finish(p.success(p.attempt, "shop.example.com")); return nil },
		"failed":    func(p *proving) error { p.finish(outage(p.attempt)); return nil },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := newProving(t)
			p.mustPut()
			work := p.asksHolding(p.one, 1)
			p.says(p.one, work[0], nil)
			p.hinted("")
			if err := end(p); err != nil {
				t.Fatal(err)
			}
			if rung := p.hinted(certctl.HintBell); len(rung) != 2 {
				t.Errorf("rung: %v", rung)
			}
			for range 2 {
				drop := p.asksHolding(p.one, 1, work[0].Set)
				if len(drop) != 1 || len(drop[0].Proofs) != 0 || drop[0].Set != work[0].Set || drop[0].Number <= work[0].Number {
					t.Errorf("to drop: %+v", drop)
				}
			}
			if rest := append(p.asksHolding(p.one, 1), p.asksHolding(p.two, 1)...); len(rest) != 0 {
				t.Errorf("sent %+v", rest)
			}
			if answer := p.says(p.two, certctl.ProveWork{Set: work[0].Set, Number: work[0].Number}, nil); !answer.Final {
				t.Errorf("a late word is repeated for ever: %+v", answer)
			}
			if how != "seen" {
				if err := p.put(certctl.Answerers{Names: []string{"one"}}); certctl.ErrorCode(err) != certctl.Conflict {
					t.Errorf("an order that has ended proves something: %v", err)
				}
			}
			p.consistent()
		})
	}
}

// A refusal lets the order go on, which says so; it is asked anew when the order
// asks again, and when the agent has been started anew.
func TestARefusedProofIsAskedForAgain(t *testing.T) {
	t.Parallel()
	p := newProving(t)
	p.mustPut()
	p.waits(certctl.WaitNodes)
	work := p.asksHolding(p.one, 1)
	refusal := &certctl.Refusal{Code: "denied", Message: "the policy does not allow it", Remedy: "change it"}
	if answer := p.says(p.one, work[0], refusal); !answer.Recorded || !p.goesOn() {
		t.Errorf("answer %+v, goes on: %t", answer, p.goesOn())
	}
	nodes, err := p.NodeProofs(p.ctx, p.order.ID)
	if err != nil || nodes[0].Refusal == nil || *nodes[0].Refusal != *refusal || nodes[0].Held {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
	if again := p.asksHolding(p.one, 1); len(again) != 0 {
		t.Errorf("asked again at once: %+v", again)
	}
	other := p.asksHolding(p.two, 1)
	p.says(p.two, other[0], nil)
	p.attempt = p.begin("w", p.order.ID)[0]
	end := pause(p.attempt, certctl.WaitBackoff, time.Hour)
	end.Err = &certctl.IssueError{Kind: certctl.FailRetryable, Code: certctl.CodeNodeRefused, Message: "it refuses", Resume: true}
	p.finish(end)
	if p.goesOn() {
		t.Error("it does not wait")
	}
	anew := p.asksHolding(p.one, 2)
	if len(anew) != 1 || anew[0].Number != work[0].Number {
		t.Fatalf("a new run is not asked: %+v", anew)
	}
	if answer := p.says(p.one, anew[0], nil); !answer.Recorded || !p.goesOn() {
		t.Errorf("answer %+v, goes on: %t", answer, p.goesOn())
	}
	p.says(p.one, anew[0], refusal)
	p.hinted("")
	p.mustPut()
	if rung := p.hinted(certctl.HintBell); len(rung) != 1 || rung[0] != p.one {
		t.Errorf("rung: %v", rung)
	}
	p.consistent()
}

func TestWhoAnswersForACertificate(t *testing.T) {
	t.Parallel()
	p := newProving(t)
	p.team("other")
	p.exec(`insert into agent (id, team_id, name, state, machine_id, statement) select $1, id, 'theirs', 'active', 'theirs', '{}' from team where name = 'other'`,
		certctl.NewID(time.Now()))
	for _, names := range [][]string{{"one", "nobody"}, {"theirs"}} {
		if err := p.put(certctl.Answerers{Names: names}); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%v: %v", names, err)
		}
	}
	if err := p.put(certctl.Answerers{Bound: true}); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("bound nowhere: %v", err)
	}
	p.targetOn("a", "one")
	p.targetOn("b", "two")
	p.targetOn("c", "two")
	bound := p.submit(request("bound", "a", "b", "c"))
	p.exec(`update external_order set order_id = $1`, p.orders(bound, "")[0].ID)
	p.order = p.orders(bound, "")[0]
	if err := p.put(certctl.Answerers{Bound: true}); err != nil {
		t.Fatal(err)
	}
	if n := p.count(`select count(*) from node_proof`); n != 2 {
		t.Errorf("%d agents are asked", n)
	}
	if _, err := p.RetireAgent(p.ctx, p.admin, "two", true); err != nil {
		t.Fatal(err)
	}
	if n := p.count(`select count(*) from node_proof`) + p.count(`select count(*) from due where kind = 'proof'`); n != 2 {
		t.Errorf("%d rows after an agent was retired", n)
	}
}
