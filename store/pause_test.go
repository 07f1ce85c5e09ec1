package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// pause ends an attempt as one that goes on at the CA.
func pause(a certctl.Attempt, wait certctl.WaitReason, after time.Duration) certctl.AttemptEnd {
	return certctl.AttemptEnd{Order: a.Order, N: a.N, Worker: a.Worker, Pause: wait, Message: "the CA validates the names", RetryAt: time.Now().Add(after)}
}

// comesDue lets an order's time come, and the dispatcher claim it.
func (w *world) comesDue(o certctl.ID) {
	w.t.Helper()
	w.exec(`update due set due_at = now() - interval '1 second' where id = $1`, o)
	if _, err := w.ClaimDue(w.ctx, 100, time.Minute); err != nil {
		w.t.Fatal(err)
	}
}

func TestAPausedAttemptGoesOnWithAnotherWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, o := w.clientOrder("shop")
	a := w.begin("a", o.ID)[0]
	if err := w.SaveAttemptState(w.ctx, o.ID, a.N, "a", "https://ca/order/1", []byte("step 3")); err != nil {
		t.Fatal(err)
	}
	if r := w.finish(pause(a, certctl.WaitCA, time.Hour))[0]; r.Stale || !r.Version.IsZero() {
		t.Fatalf("result %+v", r)
	}
	waiting := w.orders(c, certctl.OrderProcessing)
	if len(waiting) != 1 || waiting[0].Wait != certctl.WaitCA || waiting[0].Message == "" || waiting[0].DueAt.Before(time.Now().Add(59*time.Minute)) {
		t.Fatalf("orders %+v", waiting)
	}
	if got := w.begin("b", o.ID); len(got) != 0 {
		t.Fatalf("asked before its time: %+v", got)
	}
	if err := w.ExtendLease(w.ctx, o.ID, a.N, "a", lease); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("the lease was extended after the pause: %v", err)
	}
	w.comesDue(o.ID)
	jobs, err := w.ReadyOrders(w.ctx, []certctl.ID{o.ID})
	if err != nil || len(jobs) != 1 || jobs[0].Previous == nil || jobs[0].Previous.ExternalURL != "https://ca/order/1" {
		t.Fatalf("jobs %+v, %v", jobs, err)
	}
	b := w.begin("b", o.ID)
	if len(b) != 1 || b[0].N != a.N || b[0].Worker != "b" || b[0].ExternalURL != "https://ca/order/1" || string(b[0].State) != "step 3" {
		t.Fatalf("begun %+v", b)
	}
	if got := w.begin("c", o.ID); len(got) != 0 {
		t.Fatalf("two workers have it: %+v", got)
	}
	if r := w.finish(pause(a, certctl.WaitCA, time.Hour))[0]; !r.Stale {
		t.Error("the former worker paused what is not his any more")
	}
	w.finish(w.success(b[0], "shop.example.com"))
	if got := w.orders(c, certctl.OrderIssued); len(got) != 1 || got[0].Attempts != 1 || got[0].Wait != certctl.WaitNone {
		t.Errorf("orders %+v", got)
	}
	w.consistent()
}

func TestAPausedAttemptIsResumedAfterItsNextWorkerDied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, o := w.clientOrder("shop")
	a := w.begin("a", o.ID)[0]
	if err := w.SaveAttemptState(w.ctx, o.ID, a.N, "a", "https://ca/order/1", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 * certctl.MaxLostLeases { // pauses are no deaths
		w.finish(pause(a, certctl.WaitCA, time.Hour))
		w.comesDue(o.ID)
		a = w.begin("a", o.ID)[0]
	}
	w.exec(`update attempt set lease_until = now() - interval '1 second'`)
	b := w.begin("b", o.ID)
	if len(b) != 1 || b[0].N != a.N+1 || b[0].ExternalURL != "https://ca/order/1" {
		t.Fatalf("begun %+v", b)
	}
	w.consistent()
}

// A pause gives the slot back, and the way back costs nothing of the rate.
func TestAPauseTakesNoSlotAndNoSecondRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.UpdateIssuer(w.ctx, w.admin, "local", certctl.IssuerRequest{Name: "local", Kind: certctl.IssuerLocal, Concurrency: 1,
		Rate: certctl.Rate{Count: 2, Per: certctl.Duration(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	_, one := w.clientOrder("one")
	_, two := w.clientOrder("two")
	a := w.begin("a", one.ID)[0]
	w.finish(pause(a, certctl.WaitCA, time.Minute))
	b := w.begin("b", two.ID)
	if len(b) != 1 {
		t.Fatal("the paused attempt keeps its slot")
	}
	w.comesDue(one.ID)
	if got := w.begin("a", one.ID); len(got) != 0 {
		t.Fatalf("beyond the concurrency: %+v", got)
	}
	if n := w.count(`select count(*) from cert_order where id = $1 and state = 'processing' and wait = 'slot'`, one.ID); n != 1 {
		t.Error("the order does not say that it waits for a slot")
	}
	w.finish(w.success(b[0], "two.example.com"))
	w.comesDue(one.ID)
	if got := w.begin("a", one.ID); len(got) != 1 || got[0].N != a.N {
		t.Fatalf("the rate was spent twice: %+v", got)
	}
	w.consistent()
}

func TestAPauseThatIsAnOutageCountsAsOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, o := w.clientOrder("shop")
	a := w.begin("a", o.ID)[0]
	end := outage(a)
	end.Pause, end.Err.Resume = certctl.WaitBackoff, true
	w.finish(end)
	if i := w.health("local"); i.Health != certctl.HealthDegraded {
		t.Errorf("health %s", i.Health)
	}
	if got := w.orders(c, certctl.OrderProcessing); len(got) != 1 || got[0].ErrorCode != "unavailable" || got[0].Wait != certctl.WaitBackoff {
		t.Errorf("orders %+v", got)
	}
	if n := w.count(`select count(*) from event where name = 'order_delayed'`); n != 1 {
		t.Errorf("%d events", n)
	}
	w.comesDue(o.ID)
	a = w.begin("a", o.ID)[0]
	w.finish(pause(a, certctl.WaitTwin, time.Minute))
	if i := w.health("local"); i.Health != certctl.HealthDegraded {
		t.Errorf("the issuer was not asked, and is %s", i.Health)
	}
	w.comesDue(o.ID)
	a = w.begin("a", o.ID)[0]
	w.finish(pause(a, certctl.WaitCA, time.Minute))
	if i := w.health("local"); i.Health != certctl.HealthHealthy {
		t.Errorf("the issuer answered, and is %s", i.Health)
	}
	w.consistent()
}

// Somebody who has published a record need not wait until it is looked for again;
// what waits for the CA is left alone.
func TestARenewalByHandLooksForARecordAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for wait, now := range map[certctl.WaitReason]bool{certctl.WaitRecord: true, certctl.WaitCA: false} {
		c, o := w.clientOrder("waits-for-" + string(wait))
		a := w.begin("a", o.ID)[0]
		renew := func() {
			t.Helper()
			got, err := w.RenewCertificate(w.ctx, w.admin, c.Name, certctl.RenewRequest{}, certctl.Idempotency{})
			if err != nil || len(got) != 1 || got[0].ID != o.ID || got[0].State != certctl.OrderProcessing {
				t.Fatalf("renewed %+v, %v", got, err)
			}
		}
		due := func() bool {
			return w.count(`select count(*) from due where kind = 'order' and id = $1 and due_at <= now()`, o.ID) == 1
		}
		renew()
		if due() {
			t.Errorf("%s: taken from the worker that has it", wait)
		}
		w.finish(pause(a, wait, time.Hour))
		renew()
		if due() != now {
			t.Errorf("%s: looked at at once: %t, want %t", wait, due(), now)
		}
		if again := w.begin("b", o.ID); now && (len(again) != 1 || again[0].N != a.N) {
			t.Errorf("%s: goes on as %+v", wait, again)
		}
		renew()
		if due() {
			t.Errorf("%s: taken from the worker that looks", wait)
		}
	}
	w.consistent()
}
