package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// roll begins a rollout.
func (w *world) roll(r certctl.RolloutRequest) certctl.Rollout {
	w.t.Helper()
	rollout, err := w.CreateRollout(w.ctx, w.admin, r, certctl.Idempotency{})
	if err != nil {
		w.t.Fatal(err)
	}
	return rollout
}

// steps lets a rollout do so many steps and returns it.
func (w *world) steps(id certctl.ID, n int) certctl.Rollout {
	w.t.Helper()
	for range n {
		if err := w.StepRollouts(w.ctx, []certctl.ID{id}); err != nil {
			w.t.Fatal(err)
		}
	}
	r, err := w.GetRollout(w.ctx, w.admin, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// hour has a wave begun an hour earlier: the pace allows more.
func (w *world) hour(id certctl.ID) {
	w.t.Helper()
	w.exec(`update rollout set began_at = began_at - interval '1 hour' where id = $1`, id)
}

// fleet makes active certificates on one target.
func (w *world) fleet(n int) []certctl.Certificate {
	w.t.Helper()
	w.target("one")
	all := make([]certctl.Certificate, n)
	for i := range all {
		all[i] = w.active(request(fmt.Sprintf("shop%d", i), "one"))
	}
	return all
}

// bulkOrders are the open orders of mass changes.
func (w *world) bulkOrders() []certctl.Order {
	w.t.Helper()
	page, err := w.ListOrders(w.ctx, w.admin, certctl.OrderFilter{Live: true})
	if err != nil {
		w.t.Fatal(err)
	}
	var open []certctl.Order
	for _, o := range page.Items {
		if o.Origin == certctl.OriginBulk {
			open = append(open, o)
		}
	}
	return open
}

func TestARolloutReplacesWaveAfterWave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(6)
	request := certctl.RolloutRequest{Selection: certctl.Selection{Issuer: "local"}, Deadline: time.Now().Add(4 * time.Hour), Pace: certctl.RolloutPace{Canary: 1, Growth: 2}, DryRun: true}
	if dry := w.roll(request); dry.Total != 6 || len(dry.Waves) != 3 || !dry.ID.IsZero() || w.count(`select count(*) from rollout`) != 0 {
		t.Errorf("dry run %+v", dry)
	}
	request.DryRun = false
	r := w.roll(request)
	if r.Total != 6 || r.State != certctl.RolloutRunning || r.DueAt.IsZero() {
		t.Fatalf("%+v", r)
	}
	if hinted := w.hinted(certctl.HintRollout); len(hinted) != 1 {
		t.Errorf("hinted %v", hinted)
	}
	for wave, size := range []int{1, 2, 3} {
		w.steps(r.ID, 2)
		w.hour(r.ID) // the pace allows all of it
		r = w.steps(r.ID, 2)
		open := w.bulkOrders()
		if r.Wave != wave || len(open) != size || r.Waves[wave].Ordered != size {
			t.Fatalf("wave %d: %d open, %+v", wave, len(open), r)
		}
		for _, o := range open {
			w.issue(o)
		}
		w.steps(r.ID, 1)
	}
	if r = w.steps(r.ID, 1); r.State != certctl.RolloutCompleted || !r.DueAt.IsZero() || r.Waves[0].Done+r.Waves[1].Done+r.Waves[2].Done != 6 {
		t.Errorf("%+v", r)
	}
	for name, n := range map[string]int{"rollout_created": 1, "rollout_wave_started": 3, "rollout_completed": 1} {
		if got := w.count(`select count(*) from event where name = $1`, name); got != n {
			t.Errorf("%d events %s", got, name)
		}
	}
	w.consistent()
}

func TestARolloutHaltsUntilAPersonResumesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.fleet(4)
	w.exec(`update version set not_after = now() + interval '1 day' where certificate_id = $1`, all[3].ID)
	r := w.roll(certctl.RolloutRequest{Selection: certctl.Selection{IssuedBefore: time.Now()}, Pace: certctl.RolloutPace{Canary: 1, Growth: 1}})
	w.steps(r.ID, 2)
	urgent := w.orders(all[3], certctl.OrderAwaitingCSR)
	if len(urgent) != 1 || urgent[0].Urgency != certctl.UrgencyNow {
		t.Errorf("what ends within a day is not ordered first: %+v", urgent)
	}
	var canary certctl.Order
	for _, o := range w.bulkOrders() {
		if o.Certificate != all[3].ID {
			canary = o
		}
	}
	if canary.ID.IsZero() { // the urgent one was the canary
		w.issue(urgent[0])
		w.steps(r.ID, 3)
		canary = w.bulkOrders()[0]
	}
	version := w.issue(canary)
	w.exec(`update deployment set state = 'rolled_back', wait = 'backoff', message = 'nginx says no' where version_id = $1`, version)
	w.exec(`insert into due (kind, id, verb, lane, urgency, due_at) select 'deployment', id, 'bell', '-', 1, now() + interval '1 hour' from deployment where version_id = $1`, version)
	r = w.steps(r.ID, 1)
	if r.State != certctl.RolloutHalted || r.Message == "" || len(r.Problems) != 1 || r.DueAt.IsZero() {
		t.Fatalf("%+v", r)
	}
	before, wave := len(w.bulkOrders()), r.Wave
	w.hour(r.ID)
	if r = w.steps(r.ID, 3); r.State != certctl.RolloutHalted || len(w.bulkOrders()) != before {
		t.Errorf("goes on by itself: %+v", r)
	}
	_, err := w.ResumeRollout(w.ctx, w.member("", certctl.RoleViewer), r.ID)
	refused(t, err, certctl.Denied)
	if r, err = w.ResumeRollout(w.ctx, w.admin, r.ID); err != nil || r.State != certctl.RolloutRunning {
		t.Fatalf("%+v, %v", r, err)
	}
	w.hour(r.ID)
	w.exec(`update rollout set released_at = released_at - interval '2 hours'`) // the patience is over
	if r = w.steps(r.ID, 4); r.State != certctl.RolloutRunning || r.Wave <= wave {
		t.Errorf("does not go on: %+v", r)
	}
	w.consistent()
}

func TestStopAndCancelHoldARollout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(3)
	w.team("mail")
	r := w.roll(certctl.RolloutRequest{Selection: certctl.Selection{Issuer: "local"}, Pace: certctl.RolloutPace{Canary: 1, Growth: 1}})
	_, err := w.GetRollout(w.ctx, w.member("mail", certctl.RoleAdmin), r.ID)
	refused(t, err, certctl.NotFound)
	_, err = w.StopRollout(w.ctx, w.member("mail", certctl.RoleAdmin), r.ID)
	refused(t, err, certctl.NotFound)
	if _, err := w.StopRollout(w.ctx, w.admin, r.ID); err != nil {
		t.Fatal(err)
	}
	if w.steps(r.ID, 3); len(w.bulkOrders()) != 0 {
		t.Error("a stopped rollout orders")
	}
	if _, err := w.ResumeRollout(w.ctx, w.admin, r.ID); err != nil {
		t.Fatal(err)
	}
	if w.steps(r.ID, 2); len(w.bulkOrders()) != 1 {
		t.Error("a resumed rollout orders nothing")
	}
	if r, err = w.CancelRollout(w.ctx, w.admin, r.ID); err != nil || r.State != certctl.RolloutCancelled || r.Waves[1].Skipped != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r = w.steps(r.ID, 2); r.State != certctl.RolloutCancelled || len(w.bulkOrders()) != 1 {
		t.Errorf("%+v", r)
	}
	_, err = w.ResumeRollout(w.ctx, w.admin, r.ID)
	refused(t, err, certctl.Conflict, "cancelled")
	w.consistent()
}

// Teams see and change what is theirs; a freeze holds what nobody overrides.
func TestWhoMayRollOutWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(2)
	w.team("mail")
	all := certctl.RolloutRequest{Selection: certctl.Selection{IssuedBefore: time.Now()}}
	_, err := w.CreateRollout(w.ctx, w.member("default", certctl.RoleViewer), all, certctl.Idempotency{})
	refused(t, err, certctl.Denied)
	_, err = w.CreateRollout(w.ctx, w.member("mail", certctl.RoleOperator), all, certctl.Idempotency{})
	refused(t, err, certctl.Conflict, "nothing")
	_, err = w.CreateRollout(w.ctx, w.admin, certctl.RolloutRequest{}, certctl.Idempotency{})
	refused(t, err, certctl.Invalid, "issued_before")
	w.freeze(certctl.Freeze{Name: "december"})
	_, err = w.CreateRollout(w.ctx, w.admin, all, certctl.Idempotency{})
	refused(t, err, certctl.Conflict, "december")
	all.Override = "the CA is distrusted tomorrow"
	key := certctl.Idempotency{Key: "k", Hash: certctl.DigestOf([]byte("a"))}
	first, err := w.CreateRollout(w.ctx, w.admin, all, key)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := w.CreateRollout(w.ctx, w.admin, all, key); err != nil || again.ID != first.ID {
		t.Errorf("a repeated request made another one: %v", err)
	}
	if w.steps(first.ID, 2); w.bulkOrders()[0].Override == "" {
		t.Error("the orders do not say why")
	}
}

// What the sweep has renewed meanwhile is done, and nobody gets two orders.
func TestARolloutAndTheSweepMakeOneOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.fleet(2)
	r := w.roll(certctl.RolloutRequest{Selection: certctl.Selection{Issuer: "local"}, Pace: certctl.RolloutPace{Canary: 2}})
	w.due(all[0])
	w.sweeps(all[0])
	w.due(all[1])
	w.sweeps(all[1])
	w.issue(w.orders(all[0], certctl.OrderAwaitingCSR)[0])
	w.steps(r.ID, 1)
	w.exec(`update rollout set began_at = began_at - interval '20 hours'`)
	if r = w.steps(r.ID, 2); r.Waves[0].Done != 1 || r.Waves[0].Ordered != 1 || len(w.bulkOrders()) != 0 {
		t.Errorf("%+v", r)
	}
	w.issue(w.orders(all[1], certctl.OrderAwaitingCSR)[0])
	if r = w.steps(r.ID, 1); r.State != certctl.RolloutCompleted || r.Waves[0].Done != 2 {
		t.Errorf("%+v", r)
	}
	w.consistent()
}
