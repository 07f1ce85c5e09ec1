package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// outage ends an attempt as if the issuer had not answered.
func outage(a certctl.Attempt) certctl.AttemptEnd {
	return certctl.AttemptEnd{Order: a.Order, N: a.N, Worker: a.Worker, RetryAt: time.Now().Add(time.Minute),
		Err: &certctl.IssueError{Kind: certctl.FailRetryable, Code: "unavailable", Message: "connection refused", Outage: true}}
}

// goesDown lets the issuer of an order fail until its breaker opens.
func (w *world) goesDown(o certctl.Order) {
	w.t.Helper()
	for range certctl.OutagesToOpen {
		w.exec(`update cert_order set wait = '' where id = $1`, o.ID)
		w.exec(`update issuer set probe_at = now() - interval '1 second'`)
		w.finish(outage(w.begin("w", o.ID)[0]))
	}
}

func (w *world) health(issuer string) certctl.Issuer {
	w.t.Helper()
	i, err := w.GetIssuer(w.ctx, w.admin, issuer)
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

func TestABreakerOpensProbesAndCloses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, a := w.clientOrder("a")
	_, b := w.clientOrder("b")
	w.finish(outage(w.begin("w", a.ID)[0]))
	if i := w.health("local"); i.Health != certctl.HealthDegraded || i.HealthReason != "connection refused" {
		t.Errorf("after one outage: %s, %s", i.Health, i.HealthReason)
	}
	w.goesDown(a)
	if i := w.health("local"); i.Health != certctl.HealthDown || i.DownSince.IsZero() {
		t.Fatalf("after %d outages: %s", certctl.OutagesToOpen+1, i.Health)
	}
	if n := w.count(`select count(*) from event where name = 'issuer_down'`); n != 1 {
		t.Errorf("%d events", n)
	}
	if got := w.begin("w", b.ID); len(got) != 0 {
		t.Fatalf("asked while it is down: %+v", got)
	}
	if got := w.orders(c, certctl.OrderReady); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	if n := w.count(`select count(*) from cert_order where id = $1 and wait = 'issuer_down'`, b.ID); n != 1 {
		t.Error("the order does not say why it waits")
	}
	w.exec(`update issuer set probe_at = now() - interval '1 second'`)
	w.exec(`update cert_order set wait = ''`)
	probe := w.begin("w", a.ID, b.ID)
	if len(probe) != 1 {
		t.Fatalf("%d probes at once", len(probe))
	}
	w.exec(`update due set due_at = now() + interval '1 hour' where kind = 'order'`)
	w.finish(w.success(probe[0], "x.example.com"))
	if i := w.health("local"); i.Health != certctl.HealthHealthy || !i.DownSince.IsZero() || i.HealthReason != "" {
		t.Errorf("after an answer: %+v", i)
	}
	if n := w.count(`select count(*) from due where kind = 'order' and due_at <= now()`); n != 1 {
		t.Errorf("%d orders are looked at again", n)
	}
	if n := w.count(`select count(*) from event where name = 'issuer_up'`); n != 1 {
		t.Errorf("%d events", n)
	}
	w.consistent()
}

// What an issuer says about one order is an answer, whatever it says.
func TestARefusalIsNoOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, o := w.clientOrder("shop")
	for range 2 * certctl.OutagesToOpen {
		w.exec(`update cert_order set wait = '' where id = $1`, o.ID)
		end := outage(w.begin("w", o.ID)[0])
		end.Err.Outage = false
		w.finish(end)
	}
	if i := w.health("local"); i.Health != certctl.HealthHealthy {
		t.Errorf("health %s", i.Health)
	}
}

func TestOrdersGoToTheNextIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, request := range []certctl.IssuerRequest{
		{Name: "public", Kind: "other", Trust: certctl.TrustPublic}, {Name: "spare", Kind: certctl.IssuerLocal},
	} {
		if _, err := w.CreateIssuer(w.ctx, w.admin, request); err != nil {
			t.Fatal(err)
		}
	}
	r := request("shop")
	r.Issuers, r.CSR = []string{"local", "public", "spare"}, csrFor(t, "shop.example.com")
	c := w.submit(r)
	o := w.orders(c, certctl.OrderReady)[0]
	w.goesDown(o)
	w.exec(`update cert_order set wait = ''`)
	if got := w.begin("w", o.ID); len(got) != 0 || w.orders(c, "")[0].Issuer != w.issuer.ID {
		t.Fatalf("it switched before its policy's patience was over")
	}
	w.exec(`update issuer set down_since = now() - interval '2 hours' where name = 'local'`)
	w.exec(`update cert_order set wait = ''`)
	w.hinted("")
	if got := w.begin("w", o.ID); len(got) != 0 {
		t.Fatalf("begun at the issuer that is down: %+v", got)
	}
	spare := w.health("spare")
	if moved := w.orders(c, certctl.OrderReady); len(moved) != 1 || moved[0].Issuer != spare.ID {
		t.Fatalf("orders %+v", moved)
	}
	if hinted := w.hinted(certctl.HintIssue); len(hinted) != 1 {
		t.Errorf("hinted %v", hinted)
	}
	if n := w.count(`select count(*) from event where name = 'order_issuer_switched'`); n != 1 {
		t.Errorf("%d events", n)
	}
	begun, err := w.BeginIssue(w.ctx, "w", lease, []certctl.AttemptStart{start(w.orders(c, "")[0])})
	if err != nil || len(begun) != 1 || begun[0].Issuer != spare.ID {
		t.Fatalf("%+v, %v", begun, err)
	}
	w.finish(w.success(begun[0], "shop.example.com"))
	w.consistent()
}

// An attempt that was paused at the CA that is down is over: the next issuer is
// asked by an attempt of its own.
func TestAPausedAttemptStaysWithTheIssuerThatIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.CreateIssuer(w.ctx, w.admin, certctl.IssuerRequest{Name: "spare", Kind: certctl.IssuerLocal}); err != nil {
		t.Fatal(err)
	}
	r := request("shop")
	r.Issuers, r.CSR = []string{"local", "spare"}, csrFor(t, "shop.example.com")
	c := w.submit(r)
	o := w.orders(c, certctl.OrderReady)[0]
	a := w.begin("w", o.ID)[0]
	w.finish(pause(a, certctl.WaitCA, time.Hour))
	w.exec(`update issuer set health = 'down', outages = 5, down_since = now() - interval '2 hours', probe_at = now() + interval '1 hour' where name = 'local'`)
	w.comesDue(o.ID)
	if got := w.begin("w", o.ID); len(got) != 0 {
		t.Fatalf("begun at the issuer that is down: %+v", got)
	}
	spare := w.health("spare")
	begun := w.begin("w", o.ID)
	if len(begun) != 1 || begun[0].Issuer != spare.ID || begun[0].N != a.N+1 {
		t.Fatalf("begun %+v", begun)
	}
	w.finish(w.success(begun[0], "shop.example.com"))
	w.consistent()
}

func TestARateIsSharedByAllReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.UpdateIssuer(w.ctx, w.admin, "local", certctl.IssuerRequest{Name: "local", Kind: certctl.IssuerLocal,
		Rate: certctl.Rate{Count: 2, Per: certctl.Duration(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	_, a := w.clientOrder("a")
	_, b := w.clientOrder("b")
	_, c := w.clientOrder("c")
	if got := w.begin("w1", a.ID, b.ID); len(got) != 2 {
		t.Fatalf("%d begun", len(got))
	}
	if got := w.begin("w2", c.ID); len(got) != 0 {
		t.Fatalf("begun beyond the rate: %+v", got)
	}
	if n := w.count(`select count(*) from cert_order join due on due.id = cert_order.id
		where cert_order.id = $1 and wait = 'budget' and due_at between now() + interval '59 minutes' and now() + interval '61 minutes'`, c.ID); n != 1 {
		t.Error("the order does not wait until the budget frees")
	}
	w.exec(`update issuer_use set at = at - interval '1 hour'`)
	w.exec(`update cert_order set wait = '' where id = $1`, c.ID)
	if got := w.begin("w2", c.ID); len(got) != 1 {
		t.Errorf("%d begun in the next hour", len(got))
	}
	w.consistent()
}
