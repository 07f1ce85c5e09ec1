package store_test

import (
	"slices"
	"testing"

	"github.com/certctl/certctl"
)

// What the request leaves open follows from the issuer and the number of agents;
// what the issuer cannot give is refused with the arithmetic.
func TestSharingFollowsFromTheIssuer(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	var names []string
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		names = append(names, w.target(name).Name)
	}
	if c := w.submit(request("one", names[0])); c.Sharing != certctl.SharingPerAgent {
		t.Errorf("on one agent: %s", c.Sharing)
	}
	if c := w.submit(request("two", names[:2]...)); c.Sharing != certctl.SharingShared || w.holders(c)[0].Holder.Kind != certctl.HolderShared {
		t.Errorf("on two agents: %s", c.Sharing)
	}
	each := request("each", names[:5]...)
	each.Sharing = certctl.SharingPerAgent
	c := w.submit(each)
	if c.Sharing != certctl.SharingPerAgent || len(w.holders(c)) != 5 {
		t.Errorf("as was said: %s, %d holders", c.Sharing, len(w.holders(c)))
	}
	_, err := w.BindTarget(w.ctx, w.admin, "each", certctl.BindingRequest{Target: "f"})
	refused(t, err, certctl.Invalid, "6 agents", "5 in 7 days", "34 hours")
	many := request("many", names...)
	many.Sharing = certctl.SharingPerAgent
	_, err = w.SubmitCertificate(w.ctx, w.admin, many, certctl.Idempotency{})
	refused(t, err, certctl.Invalid, "7 agents with a key each need 7 leaves", "the issuer local gives 5 in 7 days", "3 days")

	free := newWorld(t)
	free.target("a")
	free.target("b")
	if c := free.submit(request("shop", "a", "b")); c.Sharing != certctl.SharingPerAgent || len(free.holders(c)) != 2 {
		t.Errorf("of an issuer without a limit: %s", c.Sharing)
	}
	free.exec(`update issuer set priced = true`)
	if c := free.submit(request("paid", "a", "b")); c.Sharing != certctl.SharingShared {
		t.Errorf("of an issuer that takes money: %s", c.Sharing)
	}
	w.consistent()
	free.consistent()
}

// A certificate for which nobody has chosen follows the issuer's limit when it
// comes to a second agent.
func TestASecondAgentMakesItShared(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	agents := []certctl.ID{w.target("a").Agent.ID, w.target("b").Agent.ID}
	c := w.submit(request("shop", "a"))
	w.issue(w.orders(c, "")[0])
	w.bind(c, "b")
	if got := w.get(c.ID); got.Sharing != certctl.SharingShared {
		t.Errorf("sharing %s", got.Sharing)
	}
	w.consistent()
	w.cycle(c)
	if n := w.installs(agents...); n != 2 || w.get(c.ID).Status != certctl.StatusActive {
		t.Errorf("%d installations, %s", n, w.get(c.ID).StatusReason)
	}
	each := request("each", "a")
	each.Sharing = certctl.SharingPerAgent
	chosen := w.submit(each)
	w.bind(chosen, "b")
	if got := w.get(chosen.ID); got.Sharing != certctl.SharingPerAgent || len(w.holders(chosen)) != 2 {
		t.Errorf("against what was chosen: %s", got.Sharing)
	}
	w.consistent()
}

// A change of the sharing gives the agents other holders; what is served stays.
func TestSharingIsChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	agents := []certctl.ID{w.target("a").Agent.ID, w.target("b").Agent.ID}
	c := w.submit(request("shop", "a", "b"))
	for _, o := range w.orders(c, "") {
		w.issue(o)
	}
	change := func(to certctl.Sharing) {
		t.Helper()
		got, err := w.UpdateCertificate(w.ctx, w.admin, "shop", certctl.CertificatePatch{Sharing: &to})
		if err != nil || got.Sharing != to {
			t.Fatalf("%+v, %v", got, err)
		}
		w.consistent()
	}
	change(certctl.SharingShared)
	if n := w.count(`select count(*) from deployment where state = 'verified'`); n != 2 {
		t.Errorf("%d deployments are still known as served", n)
	}
	if got := w.get(c.ID); got.Status != certctl.StatusPending {
		t.Errorf("%s %s", got.Status, got.StatusReason)
	}
	change(certctl.SharingShared) // changes nothing
	w.cycle(c)
	if n := w.installs(agents...); n != 2 || w.get(c.ID).Status != certctl.StatusActive {
		t.Errorf("%d installations, %s", n, w.get(c.ID).StatusReason)
	}
	change(certctl.SharingPerAgent)
	if open := w.orders(c, certctl.OrderAwaitingCSR); len(open) != 2 {
		t.Errorf("orders %+v", open)
	}
	if n := w.count(`select count(*) from member_key`); n != 0 {
		t.Errorf("%d keys of members", n)
	}
	change(certctl.SharingShared) // the holder of then begins anew
	w.cycle(c)
	w.installs(agents...)
	w.consistent()

	csr := w.submit(certctl.CertificateRequest{Name: "mine", Issuers: []string{"local"}, CSR: csrFor(t, "mine.example.com")})
	shared := certctl.SharingShared
	_, err := w.UpdateCertificate(w.ctx, w.admin, csr.ID.String(), certctl.CertificatePatch{Sharing: &shared})
	refused(t, err, certctl.Invalid, "/sharing")
	bad := certctl.Sharing("each")
	_, err = w.UpdateCertificate(w.ctx, w.admin, "shop", certctl.CertificatePatch{Sharing: &bad})
	refused(t, err, certctl.Invalid, "/sharing")
}

// An import on several agents whose issuer limits duplicates shares its next key.
func TestAnImportSharesItsNextKey(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	agents := []certctl.ID{w.target("a").Agent.ID, w.target("b").Agent.ID}
	c := w.imports(importing(t, "old", []string{"local"}, "a", "b"))
	if n := w.installs(agents...); n != 2 {
		t.Errorf("%d installations of the import", n)
	}
	if _, err := w.RenewCertificate(w.ctx, w.admin, "old", certctl.RenewRequest{}, certctl.Idempotency{}); err != nil {
		t.Fatal(err)
	}
	if got := w.get(c.ID); got.KeyMode != certctl.KeyModeAgent || got.Sharing != certctl.SharingShared {
		t.Errorf("%s %s", got.KeyMode, got.Sharing)
	}
	w.consistent()
	w.cycle(c)
	if n := w.installs(agents...); n != 2 || w.keyStates(c)[certctl.KeyHeld] != 2 {
		t.Errorf("%d installations, keys %v", n, w.keyStates(c))
	}
	w.consistent()
}

// A member whose agent is another machine now is given the key again, and is not
// counted among those who have it.
func TestAReplacedMemberIsServedAnew(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.settled("wild", 2)
	holder := w.holders(c)[0].Holder.ID
	w.replaces("agent-wild-000")
	if states := w.keyStates(c); states[certctl.KeyHeld] != 1 || states[certctl.KeyWaited] != 1 {
		t.Errorf("keys %v", states)
	}
	if n := w.count(`select count(*) from due where kind = 'share' and id = $1 and agent_id = $2`, holder, agents[1]); n != 1 {
		t.Error("nobody is asked to give it the key")
	}
	if o := w.orders(c, ""); len(o) != 1 {
		t.Errorf("orders %+v", o)
	}
	w.consistent()
}

// Members that wait for their key stand in the explanation.
func TestTheExplanationNamesMembers(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, _ := w.settled("wild", 2)
	w.target("late")
	w.bind(c, "late")
	e, err := w.ExplainCertificate(w.ctx, w.admin, c.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	say := e.Sentences(e.Holders[0])
	for _, wanted := range []string{"It is one key for 3 agents.", "The key is on: agent-wild-000, agent-wild-001.",
		"These wait for another member to seal the key for them: agent-late."} {
		if !slices.Contains(say, wanted) {
			t.Errorf("%q is not said: %q", wanted, say)
		}
	}
}

// replaces gives an agent's name to a new machine.
func (w *world) replaces(name string) {
	w.t.Helper()
	hash := w.token(certctl.JoinToken{Replace: true, Approve: true})
	if _, err := w.Enroll(w.ctx, hash, machine(name, 1), loopback, vouch); err != nil {
		w.t.Fatal(err)
	}
}
