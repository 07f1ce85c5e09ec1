package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// fails ends the next attempt of an order with an error of a kind.
func (w *world) fails(o certctl.Order, kind certctl.FailureKind, retryAt time.Time) certctl.Attempt {
	w.t.Helper()
	a := w.begin("w1", o.ID)
	if len(a) != 1 {
		w.t.Fatalf("order %s is not ready", o.ID)
	}
	w.finish(certctl.AttemptEnd{Order: o.ID, N: a[0].N, Worker: "w1", RetryAt: retryAt, Refuse: kind == certctl.FailRefused,
		Err: &certctl.IssueError{Kind: kind, Code: "some_code", Message: "what happened, and what to do"}})
	attempts, err := w.ListAttempts(w.ctx, w.admin, o.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return attempts[len(attempts)-1]
}

// An attempt says when, who, whom, what was asked, how it ended and when the next
// one is.
func TestAnAttemptTellsAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, o := w.clientOrder("shop")
	csr, err := certctl.ParseCSR(o.CSR)
	if err != nil {
		t.Fatal(err)
	}
	again := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	a := w.fails(o, certctl.FailRateLimited, again)
	if a.StartedAt.IsZero() || a.FinishedAt.IsZero() || a.Worker != "w1" || a.Issuer != w.issuer.ID || a.Serial != "0a1b" || a.SPKI != csr.SPKI ||
		a.Outcome != certctl.AttemptFailed || a.ErrorCode != "some_code" || a.Message == "" || a.Failure != certctl.FailRateLimited || !a.RetryAt.Equal(again) {
		t.Errorf("attempt %+v", a)
	}
	if got := w.orders(certctl.Certificate{ID: o.Certificate}, "")[0]; !got.DueAt.Equal(again) || got.Wait != certctl.WaitBackoff || got.Attempts != 1 {
		t.Errorf("order %+v", got)
	}
	_, refusedOrder := w.clientOrder("other")
	if a := w.fails(refusedOrder, certctl.FailRefused, time.Time{}); !a.RetryAt.IsZero() || a.Failure != certctl.FailRefused {
		t.Errorf("a refusal has no next attempt: %+v", a)
	}
	w.consistent()
}

// A person who renews by hand overtakes the back-off, which begins anew, and goes
// first.
func TestRenewByHandBeginsTheBackOffAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	o := w.orders(c, "")[0]
	w.exec(`update cert_order set state = 'ready', wait = '', urgency = 3 where id = $1`, o.ID)
	for range 3 {
		w.fails(o, certctl.FailRetryable, time.Now().Add(6*time.Hour))
		w.exec(`update cert_order set wait = '' where id = $1`, o.ID)
	}
	w.fails(o, certctl.FailRetryable, time.Now().Add(6*time.Hour))
	if begun := w.begin("w1", o.ID); len(begun) != 0 {
		t.Fatal("tried while it waits")
	}
	renewed, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{})
	if err != nil || len(renewed) != 1 || renewed[0].ID != o.ID {
		t.Fatalf("renewed %+v, %v", renewed, err)
	}
	if got := renewed[0]; got.Waived != 4 || got.Attempts != 4 || got.Urgency != certctl.UrgencyNow || got.Wait != certctl.WaitNone {
		t.Errorf("order %+v", got)
	}
	if begun := w.begin("w1", o.ID); len(begun) != 1 || begun[0].N != 5 {
		t.Errorf("begun %+v", begun)
	}
	w.consistent()
}

// One whose node has refused to make a key is asked at once, too.
func TestRenewByHandAsksARefusingNodeAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	target := w.target("one")
	c := w.submit(request("shop", "one"))
	key := w.asks(target.Agent.ID).Keys[0]
	if _, err := w.RecordReports(w.ctx, []certctl.AgentReport{{
		Statement: certctl.Statement{Agent: target.Agent.ID, Kind: certctl.ReportRefusal, Object: key.Order.ID, Number: key.Number},
		Refusal:   &certctl.Refusal{Code: "denied", Message: "no"},
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RenewCertificate(w.ctx, w.admin, c.ID.String(), certctl.RenewRequest{}, certctl.Idempotency{}); err != nil {
		t.Fatal(err)
	}
	if box := w.asks(target.Agent.ID); len(box.Keys) != 1 {
		t.Errorf("box %+v", box)
	}
	w.consistent()
}

// A wrong configuration is tried again when something changes: the profile, with
// what it says now; the issuer; the certificate. What the CA merely could not do
// waits on.
func TestAChangeEndsTheWaitOfAWrongConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	later := time.Now().Add(6 * time.Hour)
	wrong, wrongOrder := w.clientOrder("wrong")
	w.fails(wrongOrder, certctl.FailMisconfigured, later)
	_, slow := w.clientOrder("slow")
	w.fails(slow, certctl.FailRetryable, later)
	profile := certctl.DefaultProfile()
	profile.Validity = certctl.Duration(10 * certctl.Day)
	if _, err := w.UpdateProfile(w.ctx, w.admin, profile.Name, profile); err != nil {
		t.Fatal(err)
	}
	o, err := w.GetOrder(w.ctx, w.admin, wrongOrder.ID)
	if err != nil || o.Wait != certctl.WaitNone || o.Profile.Validity != profile.Validity || time.Until(o.DueAt) > time.Hour {
		t.Errorf("after the profile's change: %+v, %v", o, err)
	}
	if o, err := w.GetOrder(w.ctx, w.admin, slow.ID); err != nil || o.Wait != certctl.WaitBackoff || o.Profile.Validity == profile.Validity {
		t.Errorf("another one: %+v, %v", o, err)
	}
	w.fails(wrongOrder, certctl.FailMisconfigured, later)
	if _, err := w.UpdateIssuer(w.ctx, w.admin, "local", certctl.IssuerRequest{Name: "local"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ClaimDue(w.ctx, 100, time.Minute); err != nil {
		t.Fatal(err)
	}
	if begun := w.begin("w1", wrongOrder.ID); len(begun) != 1 {
		t.Error("not tried after the issuer's change")
	}
	w.exec(`update attempt set outcome = 'failed', failure = 'misconfigured' where order_id = $1`, wrongOrder.ID)
	w.exec(`update cert_order set state = 'ready', wait = 'backoff' where id = $1`, wrongOrder.ID)
	names := certctl.Names{DNS: []string{"wrong.example.com", "more.example.com"}}
	if _, err := w.UpdateCertificate(w.ctx, w.admin, wrong.ID.String(), certctl.CertificatePatch{Names: &names}); err != nil {
		t.Fatal(err)
	}
	if open := w.orders(wrong, certctl.OrderAwaitingCSR); len(open) != 1 || open[0].Names.Len() != 2 {
		t.Errorf("after the certificate's change: %+v", w.orders(wrong, ""))
	}
	w.consistent()
}

// A key that the profile allows no more is asked for anew.
func TestAChangedProfileAsksForAnotherKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, agent, _ := w.handedOver("one")
	o := w.sweep(c)
	w.fails(o, certctl.FailMisconfigured, time.Now().Add(6*time.Hour))
	profile := certctl.DefaultProfile()
	profile.KeyAlgorithms = []certctl.KeyAlgorithm{certctl.RSA3072}
	if _, err := w.UpdateProfile(w.ctx, w.admin, profile.Name, profile); err != nil {
		t.Fatal(err)
	}
	box := w.asks(agent)
	if len(box.Keys) != 1 || box.Keys[0].Order.ID != o.ID || box.Keys[0].Order.Profile.KeyAlgorithms[0] != certctl.RSA3072 {
		t.Errorf("box %+v", box.Keys)
	}
	w.consistent()
}

// An order whose node is away waits without an attempt, however often the bell is
// rung.
func TestAnAbsentHolderCostsNoAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	for range 10 {
		w.exec(`update due set due_at = now()`)
		hints, err := w.ClaimDue(w.ctx, 10, time.Minute)
		if err != nil || len(hints) != 1 || hints[0].Verb != certctl.HintBell {
			t.Fatalf("hints %+v, %v", hints, err)
		}
	}
	o := w.orders(c, "")[0]
	if o.State != certctl.OrderAwaitingCSR || o.Wait != certctl.WaitHolder || o.Attempts != 0 {
		t.Errorf("order %+v", o)
	}
	if got := w.get(c.ID); got.Status != certctl.StatusPending || got.StatusReason == "" {
		t.Errorf("certificate %+v", got)
	}
	w.consistent()
}
