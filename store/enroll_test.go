package store_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// keysOf are public keys of the right form, told apart by a mark.
func keysOf(mark byte) certctl.AgentKeys {
	fill := func(n int) []byte { return []byte(strings.Repeat(string(rune('A'+mark)), n)) }
	return certctl.AgentKeys{Bus: "U" + string(fill(55)), Signing: fill(32), Sealing: fill(certctl.SealingKeySize)}
}

func vouch(agent certctl.ID, _ string) (certctl.Statement, error) {
	return certctl.Statement{Agent: agent, Body: []byte("{}"), Signature: []byte("s")}, nil
}

var loopback = netip.MustParseAddr("127.0.0.1")

// token makes a join token and returns its hash.
func (w *world) token(token certctl.JoinToken) certctl.Digest {
	w.t.Helper()
	hash := certctl.DigestOf([]byte(certctl.NewID(time.Now()).String()))
	if token.UsesLeft == 0 {
		token.UsesLeft = 1
	}
	token.ExpiresAt = time.Now().Add(time.Hour)
	if _, err := w.CreateJoinToken(w.ctx, w.admin, token, hash); err != nil {
		w.t.Fatal(err)
	}
	return hash
}

func machine(name string, mark byte) certctl.Enrolment {
	return certctl.Enrolment{Name: name, MachineID: "machine-" + name, Keys: keysOf(mark)}
}

func TestATokenLetsInWhomItAllows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, test := range map[string]struct {
		token  certctl.JoinToken
		change string
		remote string
	}{
		"another name":    {certctl.JoinToken{Names: []string{"web-*"}}, "", "127.0.0.1"},
		"another network": {certctl.JoinToken{Networks: []string{"10.0.0.0/8"}}, "", "192.0.2.1"},
		"expired":         {certctl.JoinToken{}, `update join_token set expires_at = now() where hash = $1`, "127.0.0.1"},
		"revoked":         {certctl.JoinToken{}, `update join_token set revoked_at = now() where hash = $1`, "127.0.0.1"},
		"used up":         {certctl.JoinToken{}, `update join_token set uses_left = 0 where hash = $1`, "127.0.0.1"},
	} {
		hash := w.token(test.token)
		if test.change != "" {
			w.exec(test.change, hash)
		}
		_, err := w.Enroll(w.ctx, hash, machine("db-1", 1), netip.MustParseAddr(test.remote), vouch)
		if certctl.ErrorCode(err) != certctl.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.Enroll(w.ctx, certctl.DigestOf([]byte("guess")), machine("db-1", 1), loopback, vouch)
	refused(t, err, certctl.Denied, "not known")
	if n := w.count(`select count(*) from agent`); n != 0 {
		t.Errorf("%d agents", n)
	}
	hash := w.token(certctl.JoinToken{Names: []string{"web-*"}, Networks: []string{"127.0.0.0/8"}})
	agent, err := w.Enroll(w.ctx, hash, machine("web-1", 1), loopback, vouch)
	if err != nil || agent.State != certctl.AgentPending {
		t.Fatalf("agent %+v, %v", agent, err)
	}
	if approved, err := w.ApproveAgent(w.ctx, w.admin, "web-1"); err != nil || approved.State != certctl.AgentActive {
		t.Errorf("approved %+v, %v", approved, err)
	}
	_, err = w.ApproveAgent(w.ctx, w.admin, "web-1")
	refused(t, err, certctl.Conflict)
	w.consistent()
}

// A lost answer costs nothing: the same token and keys are the same agent, also
// when they come many times at once.
func TestToEnrolTwiceIsHarmless(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hash := w.token(certctl.JoinToken{Approve: true})
	var wait sync.WaitGroup
	ids := make([]certctl.ID, 6)
	for i := range ids {
		wait.Go(func() {
			agent, err := w.Enroll(w.ctx, hash, machine("web-1", 1), loopback, vouch)
			if err != nil {
				t.Error(err)
			}
			ids[i] = agent.ID
		})
	}
	wait.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("agents %v", ids)
		}
	}
	_, err := w.Enroll(w.ctx, hash, machine("web-2", 2), loopback, vouch)
	refused(t, err, certctl.Denied, "used up")
}

// A machine that takes over a name has its certificates ordered anew: the old
// keys are gone. What was retired never comes back.
func TestReplacingAnAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, err := w.Enroll(w.ctx, w.token(certctl.JoinToken{Approve: true}), machine("web-1", 1), loopback, vouch)
	if err != nil {
		t.Fatal(err)
	}
	w.targetOn("one", "web-1")
	c := w.submit(request("shop", "one"))
	w.issue(w.orders(c, "")[0])
	next := csrFor(t, "shop.example.com") // goes with the machine
	w.exec(`update holder set next_csr = $1, next_spki = $2, next_agent_id = $3`, next.DER, next.SPKI, first.ID)
	_, err = w.Enroll(w.ctx, w.token(certctl.JoinToken{Approve: true}), machine("web-1", 2), loopback, vouch)
	refused(t, err, certctl.Conflict, "web-1")
	replacing := w.token(certctl.JoinToken{Approve: true, Replace: true, UsesLeft: 3})
	second, err := w.Enroll(w.ctx, replacing, machine("web-1", 2), loopback, vouch)
	if err != nil || second.ID != first.ID || second.Keys.Bus == first.Keys.Bus {
		t.Fatalf("replaced by %+v, %v", second, err)
	}
	if open := w.orders(c, certctl.OrderAwaitingCSR); len(open) != 1 {
		t.Errorf("orders %+v", w.orders(c, ""))
	}
	_, err = w.Enroll(w.ctx, replacing, machine("web-2", 1), loopback, vouch)
	refused(t, err, certctl.Gone, "retired")
	retired, err := w.RetiredAgents(w.ctx, time.Hour)
	if err != nil || len(retired) != 1 || retired[0].Key != first.Keys.Bus {
		t.Errorf("retired %+v, %v", retired, err)
	}
	w.consistent()
}

// The token of a fleet lies where each of its nodes reads it: it takes over none
// but the fleet's own agents.
func TestAFleetsTokenReplacesItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fleet := w.token(certctl.JoinToken{Approve: true, UsesLeft: 9, Fleet: "kubernetes"})
	again := w.token(certctl.JoinToken{Approve: true, UsesLeft: 9, Fleet: "kubernetes"}) // when the first is used up
	w.agent("web-1")
	_, err := w.Enroll(w.ctx, fleet, machine("web-1", 2), loopback, vouch)
	refused(t, err, certctl.Conflict, "fleet kubernetes")
	first, err := w.Enroll(w.ctx, fleet, machine("node-1", 3), loopback, vouch)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token   certctl.Digest
		machine certctl.Enrolment
		want    certctl.ID
	}{
		"another machine":           {again, machine("node-1", 4), first.ID},
		"the same, asking again":    {fleet, machine("node-1", 3), certctl.NoID},
		"a free name":               {again, machine("node-2", 5), certctl.NoID},
		"an agent of nobody's":      {again, machine("web-1", 6), certctl.NoID},
		"a token that may anything": {w.token(certctl.JoinToken{Replace: true}), machine("node-1", 7), certctl.NoID},
	} {
		if got, err := w.ReplacedByFleet(w.ctx, c.token, c.machine); err != nil || got != c.want {
			t.Errorf("%s replaces %v, %v; want %v", name, got, err, c.want)
		}
	}
	if second, err := w.Enroll(w.ctx, again, machine("node-1", 4), loopback, vouch); err != nil || second.ID != first.ID {
		t.Errorf("replaced by %+v, %v", second, err)
	}
	if _, err := w.Enroll(w.ctx, w.token(certctl.JoinToken{Approve: true, Replace: true}), machine("web-1", 8), loopback, vouch); err != nil {
		t.Errorf("a token of its own: %v", err)
	}
	if _, err := w.Enroll(w.ctx, w.token(certctl.JoinToken{Approve: true, Replace: true}), machine("node-1", 9), loopback, vouch); err != nil {
		t.Errorf("a token of its own: %v", err)
	}
	if back, err := w.Enroll(w.ctx, fleet, machine("node-1", 10), loopback, vouch); err != nil || back.ID != first.ID {
		t.Errorf("the next pod of a node that was mended by hand: %+v, %v", back, err)
	}
	w.consistent()
}

// A server that does not know fleets reads replace alone: it must not find it there.
func TestAFleetsTokenReplacesNobodyOnOlderServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.token(certctl.JoinToken{Approve: true, Fleet: "kubernetes"})
	if n := w.count(`select count(*) from join_token where replace`); n != 0 {
		t.Error("an older server would replace any agent by a token of a fleet")
	}
	_, err := w.CreateJoinToken(w.ctx, w.admin, certctl.JoinToken{Fleet: "kubernetes", Replace: true, UsesLeft: 1, ExpiresAt: time.Now().Add(time.Hour)}, certctl.DigestOf([]byte("both")))
	refused(t, err, certctl.Invalid, "of that fleet")
}

// What joined with the chart's token before there were fleets is of the chart's.
func TestATokenComesIntoAFleetWithItsAgents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	chart, other := w.token(certctl.JoinToken{Approve: true, Replace: true, UsesLeft: 9}), w.token(certctl.JoinToken{Approve: true, UsesLeft: 9})
	own, err := w.Enroll(w.ctx, chart, machine("node-1", 1), loopback, vouch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Enroll(w.ctx, other, machine("web-1", 2), loopback, vouch); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		if n, err := w.TakeIntoFleet(w.ctx, chart, "kubernetes"); err != nil || n != want {
			t.Errorf("%d agents, %v; want %d", n, err, want)
		}
	}
	if n, err := w.TakeIntoFleet(w.ctx, other, "kubernetes"); err != nil || n != 0 {
		t.Errorf("a token that may replace nobody: %d agents, %v", n, err)
	}
	next := w.token(certctl.JoinToken{Approve: true, UsesLeft: 9, Fleet: "kubernetes"})
	if id, err := w.ReplacedByFleet(w.ctx, chart, machine("node-1", 3)); err != nil || id != own.ID {
		t.Errorf("replaces %v, %v", id, err)
	}
	if back, err := w.Enroll(w.ctx, next, machine("node-1", 3), loopback, vouch); err != nil || back.ID != own.ID {
		t.Errorf("a node that comes back: %+v, %v", back, err)
	}
	for _, token := range []certctl.Digest{chart, next} {
		_, err := w.Enroll(w.ctx, token, machine("web-1", 4), loopback, vouch)
		refused(t, err, certctl.Conflict, "fleet kubernetes")
	}
	w.consistent()
}

func TestRetiringAnAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	agent, err := w.Enroll(w.ctx, w.token(certctl.JoinToken{Approve: true}), machine("web-1", 1), loopback, vouch)
	if err != nil {
		t.Fatal(err)
	}
	w.targetOn("one", "web-1")
	c := w.submit(request("shop", "one"))
	_, err = w.RetireAgent(w.ctx, w.admin, "web-1", false)
	refused(t, err, certctl.Conflict, "shop")
	w.hinted("")
	if _, err := w.RetireAgent(w.ctx, w.admin, "web-1", true); err != nil {
		t.Fatal(err)
	}
	if told := w.hinted(certctl.HintSystem); len(told) != 1 || told[0] != agent.ID {
		t.Errorf("the keeper of accounts was told %v", told)
	}
	if open := w.orders(c, certctl.OrderAwaitingCSR); len(open) != 0 {
		t.Errorf("orders %+v", open)
	}
	_, err = w.RetireAgent(w.ctx, w.admin, agent.ID.String(), true)
	refused(t, err, certctl.Gone)
	refused(t, w.NewAgentNonce(w.ctx, agent.ID, []byte("n"), time.Minute), certctl.Gone)
	w.consistent()
}

func TestANonceIsWorthOneUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, other := w.agent("one"), w.agent("two")
	for _, nonce := range []string{"a", "late"} {
		if err := w.NewAgentNonce(w.ctx, id, []byte(nonce), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	w.exec(`update agent_nonce set expires_at = now() where nonce = 'late'`)
	refused(t, w.UseAgentNonce(w.ctx, other, []byte("a")), certctl.Denied)
	refused(t, w.UseAgentNonce(w.ctx, id, []byte("late")), certctl.Denied)
	if err := w.UseAgentNonce(w.ctx, id, []byte("a")); err != nil {
		t.Error(err)
	}
	refused(t, w.UseAgentNonce(w.ctx, id, []byte("a")), certctl.Denied)
	refused(t, w.NewAgentNonce(w.ctx, certctl.NewID(time.Now()), []byte("x"), time.Minute), certctl.NotFound)
}
