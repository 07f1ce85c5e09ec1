package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// alerts lets the scheduler look at a holder's ends as if so much of the life of
// its leaves were left, and returns how many events tell of it.
func (w *world) alerts(c certctl.Certificate, left time.Duration) int {
	w.t.Helper()
	w.exec(`update version set not_before = now() + $2 - interval '90 days', not_after = now() + $2, renew_at = now() + $2 - interval '31 days'
		where certificate_id = $1 and id in (select version_id from deployment where state = 'verified' or verified_at is null)`, c.ID, left)
	holder := w.holders(c)[0].Holder.ID
	for range 2 { // hints may come twice
		if err := w.AlertExpiring(w.ctx, []certctl.ID{holder, c.ID}); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.count(`select count(*) from event where name = 'certificate_expiring' and object_id = $1`, c.ID)
}

// Each threshold of the policy is told of once, with the time that is left and
// what the order waits for.
func TestExpiryIsToldOncePerThreshold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, _ := w.deployed("one")
	if n := w.count(`select count(*) from due where kind = 'alert'`); n != 1 {
		t.Fatalf("%d holders are watched", n)
	}
	for _, step := range []struct {
		left time.Duration
		want int
	}{{40 * certctl.Day, 0}, {29 * certctl.Day, 1}, {20 * certctl.Day, 1}, {13 * certctl.Day, 2}, {time.Hour, 3}} {
		if got := w.alerts(c, step.left); got != step.want {
			t.Errorf("with %s left: %d events, want %d", step.left, got, step.want)
		}
	}
	if got := w.text(`select convert_from(body, 'UTF8')::jsonb->'data'->>'threshold' from event
		where name = 'certificate_expiring' order by id desc limit 1`); got != "1d" {
		t.Errorf("of two thresholds that were passed at once, told of %q", got)
	}
	w.consistent()
}

// What targets serve counts: a newer leaf that has not arrived ends no alert, and
// one that is served does. The event names the order and why it waits.
func TestExpiryFollowsWhatIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, agent, next := w.handedOver("one")
	order := w.sweep(c)
	w.exec(`update version set not_before = now() - interval '70 days', not_after = now() + interval '20 days',
		renew_at = now() - interval '11 days' where certificate_id = $1`, c.ID)
	w.finish(w.keyed(w.begin("w", order.ID)[0], next, "one.example.com"))
	waiting := w.asks(agent).Installs // which is not done
	holder := w.holders(c)[0].Holder.ID
	told := func() int {
		if err := w.AlertExpiring(w.ctx, []certctl.ID{holder}); err != nil {
			t.Fatal(err)
		}
		return w.count(`select count(*) from event where name = 'certificate_expiring'`)
	}
	w.exec(`update due set due_at = now() where kind = 'alert'`)
	if n := told(); n != 1 {
		t.Fatalf("%d events while the old leaf is served", n)
	}
	w.receipt(waiting[0], certctl.OutcomeVerified, "", nil)
	w.exec(`update version set not_after = now() + interval '5 days' where id = (select replaces from version where id = $1)`, w.holders(c)[0].Version.ID)
	w.exec(`update due set due_at = now() where kind = 'alert'`)
	if n := told(); n != 1 {
		t.Errorf("%d events although the new leaf is served", n)
	}
	if n := w.count(`select count(*) from due where kind = 'alert' and due_at > now()`); n != 1 {
		t.Error("the new leaf is not watched")
	}
	w.consistent()
}

// A holder whose node is away is told of with the order that waits for it.
func TestExpiryOfAnAbsentHolder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, _ := w.deployed("one")
	o := w.sweep(c)
	if o.Wait != certctl.WaitHolder {
		t.Fatalf("order %+v", o)
	}
	if n := w.alerts(c, 6*certctl.Day); n != 1 {
		t.Fatalf("%d events", n)
	}
	if got := w.text(`select convert_from(body, 'UTF8')::jsonb->'data'->>'wait' || ' ' || (convert_from(body, 'UTF8')::jsonb->'data'->>'order')
		from event where name = 'certificate_expiring'`); got != "holder_offline "+o.ID.String() {
		t.Errorf("the event says %q", got)
	}
	w.consistent()
}

// Another policy, and an import that nobody renews, are watched as well; the end
// of a holder ends it.
func TestWhoIsWatched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	imported := w.imports(importing(t, "imported", nil, w.target("imported").Name))
	policy := certctl.DefaultRenewalPolicy()
	policy.AlertBefore = []certctl.Duration{certctl.Duration(80 * certctl.Day)}
	if _, err := w.UpdateRenewalPolicy(w.ctx, w.admin, policy.Name, policy); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from due where kind = 'alert' and due_at <= now()`); n != 1 {
		t.Error("a policy's change is not looked at")
	}
	w.exec(`update deployment set state = 'verified', verified_at = now()`)
	w.exec(`delete from due where kind = 'deployment'`)
	if err := w.AlertExpiring(w.ctx, []certctl.ID{w.holders(imported)[0].Holder.ID}); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from event where name = 'certificate_expiring'`); n != 1 { // 60 days are left
		t.Errorf("%d events", n)
	}
	bound, _, _ := w.handedOver("bound")
	if _, err := w.UnbindTarget(w.ctx, w.admin, bound.ID.String(), "bound", false); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from due join holder h on h.id = due.id where due.kind = 'alert' and h.certificate_id = $1`, bound.ID); n != 0 {
		t.Error("an ended holder is watched")
	}
	w.consistent()
}
