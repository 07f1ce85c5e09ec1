package store_test

import (
	"testing"

	"github.com/certctl/certctl"
)

// erased ends a command to erase, or refuses it with a code.
func (w *world) erased(agent certctl.ID, e certctl.EraseWork, code string) certctl.ReportAnswer {
	w.t.Helper()
	kind := certctl.ReportErased
	if code != "" {
		kind = certctl.ReportRefusal
	}
	answers, err := w.RecordReports(w.ctx, []certctl.AgentReport{{
		Statement: certctl.Statement{Agent: agent, Kind: kind, Object: e.ID, Number: e.Number}, Refusal: &certctl.Refusal{Code: code},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	return answers[0]
}

func (w *world) compromise(c certctl.Certificate) {
	w.t.Helper()
	if _, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: c.ID.String(), Reason: certctl.ReasonKeyCompromise}); err != nil {
		w.t.Fatal(err)
	}
}

// replacement installs the leaf that follows a compromise.
func (w *world) replacement(c certctl.Certificate, agent certctl.ID) {
	w.t.Helper()
	o := w.orders(c, certctl.OrderAwaitingCSR)[0]
	w.leafOf(o)
	box := w.asks(agent)
	if len(box.Installs) != 1 || len(box.Erases) != 0 {
		w.t.Fatalf("box %+v", box)
	}
	w.hinted("")
	w.receipt(box.Installs[0], certctl.OutcomeVerified, "", nil)
}

// A compromised key is erased as soon as its replacement is verified, and not
// before: what is served goes on being served.
func TestACompromisedKeyIsErasedOnceItIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, agent, _ := w.handedOver("one")
	first := w.holders(c)[0].Version
	w.compromise(c)
	if box := w.asks(agent); len(box.Erases) != 0 {
		t.Fatalf("told to erase what is served: %+v", box.Erases)
	}
	w.replacement(c, agent)
	if rung := w.hinted(certctl.HintBell); len(rung) != 1 || rung[0] != agent {
		t.Errorf("rung %v", rung)
	}
	box := w.asks(agent)
	if len(box.Erases) != 1 || box.Erases[0].SPKI != first.SPKI || box.Erases[0].Number == 0 {
		t.Fatalf("box %+v", box)
	}
	command := box.Erases[0]
	if again := w.asks(agent).Erases; len(again) != 1 || again[0] != command {
		t.Errorf("told again: %+v", again)
	}
	if a := w.erased(w.agent("thief"), command, ""); a.Recorded || !a.Final {
		t.Errorf("another agent: %+v", a)
	}
	for range 2 { // it is repeated until it is recorded
		if a := w.erased(agent, command, ""); !a.Recorded {
			t.Errorf("answer %+v", a)
		}
	}
	if box := w.asks(agent); len(box.Erases) != 0 {
		t.Errorf("told after it was done: %+v", box.Erases)
	}
	if n := w.count(`select count(*) from event where name = 'key_erased' and object_id = $1`, agent); n != 1 {
		t.Errorf("%d events", n)
	}
	_, err := w.RollBackCertificate(w.ctx, w.admin, c.ID.String(), certctl.RollbackRequest{Version: first.ID, Force: true})
	refused(t, err, certctl.Conflict, "compromised", "no way back")
	w.consistent()
}

// A key that is not served any more is erased at once; the key of another leaf
// of the certificate stays.
func TestAKeyOutOfServiceIsErasedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, agent, next := w.handedOver("one")
	first := w.holders(c)[0].Version
	w.finish(w.keyed(w.begin("w", w.sweep(c).ID)[0], next, "one.example.com"))
	w.receipt(w.asks(agent).Installs[0], certctl.OutcomeVerified, "", nil)
	if _, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: first.ID, Reason: certctl.ReasonKeyCompromise}); err != nil {
		t.Fatal(err)
	}
	box := w.asks(agent)
	if len(box.Erases) != 1 || box.Erases[0].SPKI != first.SPKI {
		t.Errorf("box %+v", box)
	}
	if n := w.count(`select count(*) from key_erasure`); n != 1 {
		t.Errorf("%d keys are to be erased", n)
	}
	w.consistent()
}

// A node that cannot erase a key now is asked again later; one that is retired
// never.
func TestARefusedErasureIsAskedForLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, agent, _ := w.handedOver("one")
	w.compromise(c)
	w.replacement(c, agent)
	command := w.asks(agent).Erases[0]
	if a := w.erased(agent, command, certctl.CodeKeyInService); !a.Recorded {
		t.Fatalf("answer %+v", a)
	}
	if box := w.asks(agent); len(box.Erases) != 0 {
		t.Errorf("asked again at once: %+v", box.Erases)
	}
	w.exec(`update due set due_at = now() where kind = 'erasure'`)
	if _, err := w.ClaimDue(w.ctx, 10, lease); err != nil {
		t.Fatal(err)
	}
	if box := w.asks(agent); len(box.Erases) != 1 {
		t.Errorf("asked later: %+v", box.Erases)
	}
	if n := w.count(`select count(*) from due where kind = 'erasure' and due_at > now() + interval '10 minutes'`); n != 1 {
		t.Error("the agent is rung each minute")
	}
	w.consistent()
	if _, err := w.RetireAgent(w.ctx, w.admin, agent.String(), true); err != nil {
		t.Fatal(err)
	}
	w.consistent()
}
