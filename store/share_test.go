package store_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// sharing is a world whose issuer gives five leaves of the same names a week.
func sharing(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.exec(`update issuer set duplicates_count = 5, duplicates_period = $1`, int64(7*certctl.Day))
	return w
}

// shared submits a certificate on new targets, each on an agent of its own.
func (w *world) shared(name string, n int) (certctl.Certificate, []certctl.ID) {
	w.t.Helper()
	r := request(name)
	r.Sharing = certctl.SharingShared
	var agents []certctl.ID
	for i := range n {
		target := w.target(fmt.Sprintf("%s-%03d", name, i))
		agents = append(agents, target.Agent.ID)
		r.Bindings = append(r.Bindings, certctl.BindingRequest{Target: target.Name})
	}
	return w.submit(r), agents
}

// answersShared lets an agent make the shared key that its mailbox asks for, with
// a ciphertext for each recipient, and returns the command.
func (w *world) answersShared(agent certctl.ID) (certctl.KeyWork, *certctl.CSR, certctl.ReportAnswer) {
	w.t.Helper()
	box := w.asks(agent)
	if len(box.Keys) != 1 {
		w.t.Fatalf("%d keys to make: %+v", len(box.Keys), box)
	}
	k := box.Keys[0]
	csr := csrFor(w.t, k.Order.Names.DNS...)
	return k, csr, w.reportsCSR(agent, k, csr)
}

func (w *world) reportsCSR(agent certctl.ID, k certctl.KeyWork, csr *certctl.CSR) certctl.ReportAnswer {
	w.t.Helper()
	r := certctl.AgentReport{
		Statement: certctl.Statement{Agent: agent, Kind: certctl.ReportCSR, Object: k.Order.ID, Number: k.Number}, CSR: csr,
		Shared: &certctl.SharedReport{Sealed: sealedFor(k.Recipients)},
	}
	return w.report(r)
}

// sealedFor seals as a member does, as far as the store can tell.
func sealedFor(recipients []certctl.Statement) (sealed []certctl.SealedKey) {
	for _, to := range recipients {
		sealed = append(sealed, certctl.SealedKey{Agent: to.Agent, Ciphertext: append([]byte("sealed for "), to.Agent[:]...)})
	}
	return sealed
}

func (w *world) report(r certctl.AgentReport) certctl.ReportAnswer {
	w.t.Helper()
	answers, err := w.RecordReports(w.ctx, []certctl.AgentReport{r})
	if err != nil {
		w.t.Fatal(err)
	}
	return answers[0]
}

// signs issues a ready order with a leaf of the key that was asked for.
func (w *world) signs(o certctl.Order, csr *certctl.CSR) certctl.ID {
	w.t.Helper()
	attempts := w.begin("issuing", o.ID)
	if len(attempts) != 1 {
		w.t.Fatalf("order %s is not ready: %+v", o.ID, w.orders(certctl.Certificate{ID: o.Certificate}, ""))
	}
	end := w.success(attempts[0], o.Names.DNS...)
	end.Leaf = leafOf(w.t, csr, o.Names.DNS...)
	return w.finish(end)[0].Version
}

// leafOf makes a leaf for the key of a request.
func leafOf(t testing.TB, csr *certctl.CSR, names ...string) []byte {
	t.Helper()
	request, err := x509.ParseCertificateRequest(csr.DER)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names,
		NotBefore: time.Now().Add(-30 * certctl.Day), NotAfter: time.Now().Add(60 * certctl.Day)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, request.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// cycle takes the open order of a shared certificate to its leaf, and returns the
// maker, the order and the version.
func (w *world) cycle(c certctl.Certificate) (certctl.ID, certctl.Order, certctl.ID) {
	w.t.Helper()
	open := w.orders(c, certctl.OrderAwaitingCSR)
	if len(open) != 1 {
		w.t.Fatalf("%d orders wait for a key: %+v", len(open), w.orders(c, ""))
	}
	o := open[0]
	_, csr, answer := w.answersShared(o.Maker.ID)
	if !answer.Recorded {
		w.t.Fatalf("answer %+v", answer)
	}
	return o.Maker.ID, o, w.signs(o, csr)
}

// askAll asks for many agents at once, as the signer does.
func (w *world) askAll(agents []certctl.ID) []certctl.MailboxWork {
	w.t.Helper()
	asks := make([]certctl.MailboxAsk, len(agents))
	for i, agent := range agents {
		asks[i] = certctl.MailboxAsk{Agent: agent, Request: certctl.MailboxRequest{Session: certctl.ID{1}, Version: "1"}}
	}
	rows, err := w.Pool().Query(w.ctx, `select machine_id from agent where id = any($1) order by array_position($1, id)`, agents)
	if err != nil {
		w.t.Fatal(err)
	}
	machines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range asks {
		asks[i].Request.MachineID = machines[i]
	}
	boxes, err := w.MailboxFor(w.ctx, asks)
	if err != nil {
		w.t.Fatal(err)
	}
	return boxes
}

// installs lets agents install what their mailboxes hold, until they are empty,
// and seal what they are asked to; it returns how many leaves were installed.
func (w *world) installs(agents ...certctl.ID) int {
	w.t.Helper()
	n := 0
	for {
		var reports []certctl.AgentReport
		for i, box := range w.askAll(agents) {
			for _, share := range box.Shares {
				reports = append(reports, sharedReport(agents[i], share))
			}
			for _, install := range box.Installs {
				n++
				reports = append(reports, receiptOf(agents[i], install, certctl.OutcomeVerified, ""))
			}
		}
		if len(reports) == 0 {
			return n
		}
		answers, err := w.RecordReports(w.ctx, reports)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, answer := range answers {
			if !answer.Recorded {
				w.t.Fatalf("answer %+v", answer)
			}
		}
	}
}

func sharedReport(agent certctl.ID, share certctl.ShareWork) certctl.AgentReport {
	return certctl.AgentReport{
		Statement: certctl.Statement{Agent: agent, Kind: certctl.ReportShared, Object: share.Holder, Number: share.Number},
		Shared:    &certctl.SharedReport{Holder: share.Holder, SPKI: share.SPKI, Sealed: sealedFor(share.Recipients)},
	}
}

func receiptOf(agent certctl.ID, install certctl.InstallWork, outcome certctl.ReceiptOutcome, code string) certctl.AgentReport {
	return certctl.AgentReport{
		Statement: certctl.Statement{Agent: agent, Kind: certctl.ReportReceipt, Object: install.Deployment.ID, Number: install.Number},
		Receipt: &certctl.Receipt{Deployment: install.Deployment.ID, Binding: install.Binding.ID, Version: install.Version.ID,
			Fingerprint: install.Version.Fingerprint, Outcome: outcome, Code: code},
	}
}

// keyStates says how many members are in each state.
func (w *world) keyStates(c certctl.Certificate) map[certctl.KeyState]int {
	w.t.Helper()
	holders := w.holders(c)
	if len(holders) != 1 || holders[0].Holder.Kind != certctl.HolderShared {
		w.t.Fatalf("holders %+v", holders)
	}
	states := map[certctl.KeyState]int{}
	for _, k := range holders[0].Holder.Keys {
		states[k.State]++
	}
	return states
}

// One wildcard on 200 agents is one order a cycle.
func TestOneOrderACycleFor200Agents(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.shared("wild", 200)
	for cycle := 1; cycle <= 2; cycle++ {
		if orders := w.orders(c, ""); len(orders) != cycle {
			t.Fatalf("%d orders in cycle %d", len(orders), cycle)
		}
		maker, _, version := w.cycle(c)
		if states := w.keyStates(c); states[certctl.KeyHeld] != 1 || states[certctl.KeySent] != certctl.MaxRecipients {
			t.Errorf("keys after the request: %v", states)
		}
		i := slices.Index(agents, maker) // first, since it has what the others need
		agents[0], agents[i] = agents[i], agents[0]
		if n := w.installs(agents...); n != len(agents) {
			t.Errorf("%d of %d have installed", n, len(agents))
		}
		if states := w.keyStates(c); states[certctl.KeyHeld] != len(agents) {
			t.Errorf("keys in the end: %v", states)
		}
		if n := w.count(`select count(*) from deployment where version_id = $1 and state = 'verified'`, version); n != len(agents) {
			t.Errorf("%d deployments verified", n)
		}
		if got := w.get(c.ID); got.Status != certctl.StatusActive {
			t.Errorf("certificate %s: %s", got.Status, got.StatusReason)
		}
		if n := w.count(`select count(*) from version where certificate_id = $1`, c.ID); n != cycle {
			t.Errorf("%d versions in cycle %d", n, cycle)
		}
		w.consistent()
		if cycle == 1 {
			w.exec(`update version set renew_at = now() - interval '1 hour'`)
			if n, err := w.RenewHolders(w.ctx, []certctl.ID{w.holders(c)[0].Holder.ID}); err != nil || n != 1 {
				t.Fatalf("%d orders, %v", n, err)
			}
		}
	}
}

// settled is a shared certificate that all its agents have installed.
func (w *world) settled(name string, n int) (certctl.Certificate, []certctl.ID) {
	w.t.Helper()
	c, agents := w.shared(name, n)
	w.cycle(c)
	w.installs(agents...)
	if got := w.get(c.ID); got.Status != certctl.StatusActive {
		w.t.Fatalf("certificate %s: %s", got.Status, got.StatusReason)
	}
	return c, agents
}

func (w *world) bind(c certctl.Certificate, target string) {
	w.t.Helper()
	if _, err := w.BindTarget(w.ctx, w.admin, c.ID.String(), certctl.BindingRequest{Target: target}); err != nil {
		w.t.Fatal(err)
	}
}

// minuteLater lets everything that comes up after a minute come up now, as the
// dispatcher and the workers behind it do.
func (w *world) minuteLater() {
	w.t.Helper()
	w.exec(`update due set due_at = now() - interval '1 second' where due_at < now() + interval '2 minutes'`)
	hints, err := w.ClaimDue(w.ctx, 1000, time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, hint := range hints {
		switch hint.Verb {
		case certctl.HintExpire:
			err = w.RemindOrders(w.ctx, hint.IDs)
		case certctl.HintRenew:
			_, err = w.RenewHolders(w.ctx, hint.IDs)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// silent makes it long ago that agents were heard of.
func (w *world) silent(agents ...certctl.ID) {
	w.t.Helper()
	w.exec(`update agent_contact set at = now() - interval '10 minutes' where agent_id = any($1)`, agents)
}

// A member that comes later gets the key from one that has it; its deployment
// waits meanwhile and says why.
func TestALaterMemberIsServedByOneThatHasTheKey(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.settled("wild", 2)
	late := w.target("late")
	w.bind(c, "late")
	waiting := func() certctl.Deployment {
		for _, d := range w.deployments(c) {
			if d.Target.ID == late.ID {
				return d
			}
		}
		t.Fatal("no deployment")
		return certctl.Deployment{}
	}
	if d := waiting(); d.State != certctl.DeploymentPending || d.Wait != certctl.WaitKey {
		t.Errorf("deployment %s waits %q", d.State, d.Wait)
	}
	if box := w.asks(late.Agent.ID); len(box.Installs)+len(box.Keys)+len(box.Shares) != 0 {
		t.Errorf("sent without a key: %+v", box)
	}
	w.minuteLater() // which does not free it
	if d := waiting(); d.Wait != certctl.WaitKey {
		t.Errorf("waits %q", d.Wait)
	}
	w.consistent()
	if n := w.installs(append(agents, late.Agent.ID)...); n != 1 {
		t.Errorf("%d installations", n)
	}
	if d := waiting(); d.State != certctl.DeploymentVerified {
		t.Errorf("deployment %+v", d)
	}
	if orders := w.orders(c, ""); len(orders) != 1 {
		t.Errorf("%d orders", len(orders))
	}
	if n := w.count(`select count(*) from member_key where sealed is not null`) + w.count(`select count(*) from due where kind = 'share'`); n != 0 {
		t.Errorf("%d ciphertexts and duties left", n)
	}
	w.consistent()
}

// Where nobody on line has the key, there is a new one after a while, and not
// more than one an hour.
func TestAKeyThatNobodyCanGiveIsReplaced(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.settled("wild", 2)
	w.target("late")
	w.silent(agents...)
	w.bind(c, "late")
	w.minuteLater()
	if orders := w.orders(c, ""); len(orders) != 1 {
		t.Fatalf("a new key at once: %+v", orders)
	}
	w.exec(`update holder_member set joined_at = now() - interval '11 minutes' where joined_at = (select max(joined_at) from holder_member)`)
	w.minuteLater()
	if orders := w.orders(c, ""); len(orders) != 1 {
		t.Fatalf("a new key within an hour of the last: %+v", orders)
	}
	w.exec(`update version set created_at = now() - interval '61 minutes'`)
	w.minuteLater()
	orders := w.orders(c, certctl.OrderAwaitingCSR)
	if len(orders) != 1 || w.count(`select count(*) from event where name = 'order_created' and convert_from(body, 'UTF8')::jsonb->'data'->>'reason' = 'key'`) != 1 {
		t.Fatalf("orders %+v", w.orders(c, ""))
	}
	w.consistent()

	w2 := sharing(t)
	c, agents = w2.settled("wild", 2)
	w2.exec(`delete from member_key`) // its disks are gone
	w2.exec(`insert into due (kind, id, verb, lane, urgency, due_at) select 'share', id, 'renew', '-', 0, now() from holder`)
	w2.minuteLater()
	if orders := w2.orders(c, certctl.OrderAwaitingCSR); len(orders) != 1 {
		t.Errorf("a key that nobody has is not replaced at once: %+v", orders)
	}
	w2.asks(agents[0])
	w2.consistent()
}

// A maker that does not answer is replaced by one that is on line; what it says
// afterwards does not count, and there is one order.
func TestAnotherMakerIsNamed(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.shared("wild", 3)
	first := w.orders(c, "")[0].Maker.ID
	box := w.asks(first) // it has the command
	others := slices.DeleteFunc(slices.Clone(agents), func(a certctl.ID) bool { return a == first })
	w.asks(others[0])
	w.asks(others[1])
	w.minuteLater()
	if got := w.orders(c, "")[0].Maker.ID; got != first {
		t.Fatalf("the maker was given no time")
	}
	w.silent(first)
	w.exec(`update cert_order set number = number - 4 * 60 * 1000000`)
	old := box.Keys[0]
	old.Number -= 4 * 60 * 1000000
	w.minuteLater()
	o := w.orders(c, "")[0]
	if o.Maker.ID == first || o.State != certctl.OrderAwaitingCSR || o.Maker.Name == "" {
		t.Fatalf("order %+v", o)
	}
	if rung := w.hinted(certctl.HintBell); !slices.Contains(rung, o.Maker.ID) {
		t.Errorf("rung %v", rung)
	}
	if box := w.asks(first); len(box.Keys) != 0 {
		t.Errorf("two are asked: %+v", box.Keys)
	}
	late := csrFor(t, "wild.example.com")
	if a := w.reportsCSR(first, old, late); a.Recorded || !a.Final {
		t.Errorf("a late request: %+v", a)
	}
	k, csr, a := w.answersShared(o.Maker.ID)
	if !a.Recorded || k.Number <= old.Number || len(k.Recipients) != 2 {
		t.Errorf("answer %+v, number %d", a, k.Number)
	}
	if a := w.reportsCSR(o.Maker.ID, k, csr); !a.Recorded {
		t.Errorf("the same request again: %+v", a)
	}
	if a := w.reportsCSR(first, old, late); a.Recorded || !a.Final {
		t.Errorf("a late request after the other: %+v", a)
	}
	w.signs(o, csr)
	w.installs(agents...)
	if orders := w.orders(c, ""); len(orders) != 1 || w.count(`select count(*) from event where name = 'report_denied'`) != 0 {
		t.Errorf("orders %+v", orders)
	}
	if got := w.get(c.ID); got.Status != certctl.StatusActive {
		t.Errorf("%s %s", got.Status, got.StatusReason)
	}
	w.consistent()
}

// Who is no member may neither make the key nor seal it.
func TestStrangersDoNotShare(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.settled("wild", 2)
	stranger, late := w.target("stranger"), w.target("late")
	w.bind(c, "late")
	var share certctl.ShareWork
	var giver certctl.ID
	for _, agent := range agents {
		if box := w.asks(agent); len(box.Shares) > 0 {
			share, giver = box.Shares[0], agent
		}
	}
	if giver.IsZero() || len(share.Recipients) != 1 || share.Recipients[0].Agent != late.Agent.ID {
		t.Fatalf("share %+v", share)
	}
	if a := w.report(sharedReport(stranger.Agent.ID, share)); a.Recorded || !a.Final {
		t.Errorf("a stranger: %+v", a)
	}
	if a := w.report(sharedReport(late.Agent.ID, share)); a.Recorded {
		t.Errorf("one without the key: %+v", a)
	}
	old := share
	old.Number--
	if a := w.report(sharedReport(giver, old)); a.Recorded {
		t.Errorf("an older command: %+v", a)
	}
	foreign := share
	foreign.Recipients = append(slices.Clone(share.Recipients), certctl.Statement{Agent: stranger.Agent.ID})
	if a := w.report(sharedReport(giver, foreign)); !a.Recorded {
		t.Errorf("%+v", a)
	}
	if n := w.count(`select count(*) from member_key where agent_id = $1`, stranger.Agent.ID); n != 0 {
		t.Error("a stranger was stored as a recipient")
	}
	if n := w.count(`select count(*) from event where name = 'report_denied'`); n != 2 {
		t.Errorf("%d denials", n)
	}
	w.consistent()
}

// A member that leaves gets no further key, and a key that may be used again is
// not, once somebody has left who knows it.
func TestWhoLeavesGetsNoFurtherKey(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	w.exec(`update profile set body = body || '{"reuse_key": true}'`)
	c, agents := w.settled("wild", 3)
	renew := func() certctl.KeyWork {
		if _, err := w.RenewCertificate(w.ctx, w.admin, c.ID.String(), certctl.RenewRequest{}, certctl.Idempotency{}); err != nil {
			t.Fatal(err)
		}
		k, csr, answer := w.answersShared(w.orders(c, certctl.OrderAwaitingCSR)[0].Maker.ID)
		if !answer.Recorded {
			t.Fatalf("answer %+v", answer)
		}
		w.signs(k.Order, csr)
		return k
	}
	if k := renew(); k.Reuse.IsZero() {
		t.Error("the key is not used again although everybody is there")
	}
	w.installs(agents...)
	if _, err := w.UnbindTarget(w.ctx, w.admin, c.ID.String(), "wild-000", false); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from member_key where agent_id = $1`, agents[0]); n != 0 {
		t.Errorf("%d keys of who has left", n)
	}
	w.consistent()
	k := renew()
	if !k.Reuse.IsZero() || len(k.Recipients) != 1 || k.Order.Maker.ID == agents[0] || k.Recipients[0].Agent == agents[0] {
		t.Errorf("after somebody left: %+v", k)
	}
	if n := w.installs(agents...); n != 2 {
		t.Errorf("%d installations", n)
	}
	if k := renew(); k.Reuse.IsZero() {
		t.Error("a key that only those who are there know is not used again")
	}
	w.installs(agents...)
	for _, target := range []string{"wild-001", "wild-002"} {
		if _, err := w.UnbindTarget(w.ctx, w.admin, c.ID.String(), target, false); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.count(`select count(*) from holder where ended_at is null`) + w.count(`select count(*) from holder_member where left_at is null`) +
		w.count(`select count(*) from member_key`); n != 0 {
		t.Errorf("%d holders, members and keys of nobody", n)
	}
	w.consistent()
	w.bind(c, "wild-001")
	if o := w.orders(c, certctl.OrderAwaitingCSR); len(o) != 1 || o[0].Maker.ID != agents[1] {
		t.Errorf("bound again: %+v", w.orders(c, ""))
	}
	w.consistent()
}

// The maker that leaves before it answers is not waited for.
func TestTheMakerLeaves(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.shared("wild", 2)
	maker := w.orders(c, "")[0].Maker.ID
	target := "wild-00" + fmt.Sprint(slices.Index(agents, maker))
	if _, err := w.UnbindTarget(w.ctx, w.admin, c.ID.String(), target, false); err != nil {
		t.Fatal(err)
	}
	w.consistent()
	o := w.orders(c, "")
	if len(o) != 1 || o[0].Maker.ID == maker || o[0].Maker.ID.IsZero() {
		t.Fatalf("orders %+v", o)
	}
	w.cycle(c)
	w.installs(agents...)
	if got := w.get(c.ID); got.Status != certctl.StatusActive {
		t.Errorf("%s %s", got.Status, got.StatusReason)
	}
	w.consistent()
}

// A machine in somebody else's hands: every key that it knows is revoked and
// blocked, and replaced where others use it.
func TestACompromisedMemberTakesItsKeysAlong(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.settled("wild", 3)
	own := w.submit(request("own", "wild-000"))
	w.issue(w.orders(own, "")[0])
	elsewhere := w.submit(request("else", "wild-001"))
	w.issue(w.orders(elsewhere, "")[0])
	if _, err := w.RetireCompromisedAgent(w.ctx, w.member(certctl.DefaultTeam, certctl.RoleViewer), "agent-wild-000"); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("a viewer: %v", err)
	}
	if _, err := w.RetireCompromisedAgent(w.ctx, w.admin, "agent-wild-000"); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from version where revocation = 'keyCompromise' and certificate_id = any($1)`, []certctl.ID{c.ID, own.ID}); n != 2 {
		t.Errorf("%d versions revoked", n)
	}
	if n := w.count(`select count(*) from version where revoked_at is not null`); n != 2 {
		t.Errorf("%d revoked in all", n)
	}
	if n := w.count(`select count(*) from blocked_key`); n != 2 {
		t.Errorf("%d keys blocked", n)
	}
	if o := w.orders(own, certctl.OrderAwaitingCSR); len(o) != 0 {
		t.Errorf("replaced on the machine that is lost: %+v", o)
	}
	o := w.orders(c, certctl.OrderAwaitingCSR)
	if len(o) != 1 || o[0].Maker.ID == agents[0] || o[0].Urgency != certctl.UrgencyNow {
		t.Fatalf("orders %+v", w.orders(c, ""))
	}
	w.consistent()
	w.cycle(c)
	if n := w.installs(agents[1:]...); n != 2 {
		t.Errorf("%d installations", n)
	}
	if got := w.get(c.ID); got.Status != certctl.StatusActive {
		t.Errorf("%s %s", got.Status, got.StatusReason)
	}
	w.consistent()
}

// An order whose key the lost machine has made, or was sealed, begins anew.
func TestACompromisedMakersOrderBeginsAnew(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.shared("wild", 2)
	maker := w.orders(c, "")[0].Maker.ID
	_, csr, _ := w.answersShared(maker)
	other := agents[1-slices.Index(agents, maker)]
	name := w.text(`select name from agent where id = $1`, other) // to which it was sealed
	if _, err := w.RetireCompromisedAgent(w.ctx, w.admin, name); err != nil {
		t.Fatal(err)
	}
	live := w.orders(c, certctl.OrderAwaitingCSR)
	if len(live) != 1 || live[0].Maker.ID != maker || len(w.orders(c, certctl.OrderCancelled)) != 1 {
		t.Fatalf("orders %+v", w.orders(c, ""))
	}
	k, _, _ := w.answersShared(maker)
	if len(k.Recipients) != 0 {
		t.Errorf("sealed for %+v", k.Recipients)
	}
	if n := w.count(`select count(*) from blocked_key where spki = $1`, csr.SPKI); n != 1 {
		t.Error("its key is not blocked")
	}
	w.consistent()
}

// A revocation with keyCompromise replaces a shared key at once, and nobody is
// given the old one any more.
func TestACompromisedSharedKeyIsReplaced(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.settled("wild", 2)
	w.target("late")
	w.bind(c, "late")
	if _, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: c.ID.String(), Reason: certctl.ReasonKeyCompromise}); err != nil {
		t.Fatal(err)
	}
	w.minuteLater()
	for _, agent := range agents {
		if box := w.asks(agent); len(box.Shares) != 0 {
			t.Errorf("a compromised key is shared: %+v", box.Shares)
		}
	}
	w.cycle(c)
	w.installs(append(agents, w.holders(c)[0].Holder.Members[0].ID)...)
	w.consistent()
}

// Going back works while somebody has the key of then.
func TestRollBackOfASharedKey(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.settled("wild", 2)
	first := w.holders(c)[0].Version.ID
	if _, err := w.RenewCertificate(w.ctx, w.admin, c.ID.String(), certctl.RenewRequest{}, certctl.Idempotency{}); err != nil {
		t.Fatal(err)
	}
	w.cycle(c)
	w.installs(agents...)
	if _, err := w.RollBackCertificate(w.ctx, w.admin, c.ID.String(), certctl.RollbackRequest{}); err != nil {
		t.Fatal(err)
	}
	if n := w.installs(agents...); n != 2 {
		t.Errorf("%d installations", n)
	}
	if got := w.holders(c)[0].Version.ID; got != first {
		t.Errorf("current is %s", got)
	}
	w.consistent()
	for range 2 {
		if _, err := w.RenewCertificate(w.ctx, w.admin, c.ID.String(), certctl.RenewRequest{}, certctl.Idempotency{}); err != nil {
			t.Fatal(err)
		}
		w.cycle(c)
		w.installs(agents...)
	}
	_, err := w.RollBackCertificate(w.ctx, w.admin, c.ID.String(), certctl.RollbackRequest{Version: first})
	refused(t, err, certctl.Conflict, "key")
	w.consistent()
}

// A node that says that its key is missing gets it again, from another one.
func TestALostKeyIsSealedAgain(t *testing.T) {
	t.Parallel()
	w := sharing(t)
	c, agents := w.shared("wild", 2)
	maker, _, _ := w.cycle(c)
	w.installs(maker)
	other := agents[1-slices.Index(agents, maker)]
	box := w.asks(other)
	if len(box.Installs) != 1 || len(box.Installs[0].Shared.Ciphertext) == 0 || box.Installs[0].Shared.Number == 0 {
		t.Fatalf("box %+v", box)
	}
	if a := w.report(receiptOf(other, box.Installs[0], certctl.OutcomeFailed, "key_missing")); !a.Recorded {
		t.Fatalf("answer %+v", a)
	}
	if states := w.keyStates(c); states[certctl.KeyWaited] != 1 {
		t.Errorf("keys %v", states)
	}
	w.consistent()
	if n := w.installs(agents...); n != 0 {
		t.Errorf("installed within its back-off")
	}
	if states := w.keyStates(c); states[certctl.KeySent] != 1 {
		t.Errorf("keys %v", states)
	}
	w.minuteLater()
	if n := w.installs(agents...); n != 1 || w.get(c.ID).Status != certctl.StatusActive {
		t.Errorf("%d installations, %s", n, w.get(c.ID).StatusReason)
	}
	w.consistent()
}
