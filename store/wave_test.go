package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// spread makes an active certificate on so many targets of one agent, under a
// policy with waves.
func (w *world) spread(targets int, waves certctl.DeployWaves) certctl.Certificate {
	w.t.Helper()
	policy := certctl.DefaultRenewalPolicy()
	policy.Name, policy.DeployWaves = "waves", waves
	if _, err := w.CreateRenewalPolicy(w.ctx, w.admin, policy); err != nil {
		w.t.Fatal(err)
	}
	w.agent("node")
	r := request("shop")
	r.RenewalPolicy = "waves"
	for i := range targets {
		name := fmt.Sprintf("t%d", i)
		w.targetOn(name, "node")
		r.Bindings = append(r.Bindings, certctl.BindingRequest{Target: name})
	}
	return w.active(r)
}

// renewLeaf has a certificate renewed by the sweep, up to its deployments.
func (w *world) renewLeaf(c certctl.Certificate) certctl.ID {
	w.t.Helper()
	w.due(c)
	if w.sweeps(c) != 1 {
		w.t.Fatal("not renewed")
	}
	o := w.orders(c, certctl.OrderAwaitingCSR)[0]
	w.exec(`update cert_order set state = 'ready', wait = '' where id = $1`, o.ID)
	return w.finish(w.success(w.begin("w", o.ID)[0], o.Names.DNS...))[0].Version
}

// claims has everything of a version looked at as if it were due, and returns how
// many of its deployments are on their way and how many wait for a wave.
func (w *world) claims(version certctl.ID) (open, waiting int) {
	w.t.Helper()
	w.exec(`update due set due_at = now() - interval '1 second' where kind = 'deployment'`)
	if _, err := w.ClaimDue(w.ctx, 1000, time.Minute); err != nil {
		w.t.Fatal(err)
	}
	return w.count(`select count(*) from deployment where version_id = $1 and state in ('pending', 'installing') and wait = ''`, version),
		w.count(`select count(*) from deployment join due on due.kind = 'deployment' and due.id = deployment.id and due.due_at > now()
			where version_id = $1 and state = 'pending' and wait = 'wave'`, version)
}

// serve has what is on its way verified.
func (w *world) serve(version certctl.ID) {
	w.t.Helper()
	w.exec(`delete from due using deployment d where due.kind = 'deployment' and d.id = due.id and d.version_id = $1 and d.wait = ''`, version)
	w.exec(`update deployment set state = 'verified', verified_at = now() where version_id = $1 and wait = '' and state = 'pending'`, version)
}

func TestARenewalIsInstalledInWaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.spread(5, certctl.DeployWaves{Canary: 1, Share: 0.4})
	version := w.renewLeaf(c)
	want := func(open, waiting int) {
		t.Helper()
		if o, wait := w.claims(version); o != open || wait != waiting {
			t.Fatalf("%d on their way and %d waiting, want %d and %d", o, wait, open, waiting)
		}
	}
	want(1, 4)
	want(1, 4)
	w.serve(version)
	want(2, 2)
	w.exec(`update deployment set state = 'rolled_back', wait = 'backoff' where id = (
		select id from deployment where version_id = $1 and state = 'pending' and wait = '' order by id limit 1)`, version)
	w.exec(`update deployment set state = 'verified', verified_at = now() where version_id = $1 and state = 'pending' and wait = ''`, version)
	w.exec(`delete from due using deployment d where due.kind = 'deployment' and d.id = due.id and d.state = 'verified'`)
	want(0, 2) // the old leaf stays on the others
	if all := w.deployments(c); all[0].DueAt.IsZero() && all[1].DueAt.IsZero() {
		t.Errorf("%+v", all)
	}
	w.exec(`update deployment set state = 'pending', wait = '' where version_id = $1 and state = 'rolled_back'`, version)
	w.serve(version)
	want(2, 0)
	w.consistent()
}

// What is urgent waits for no wave, and one that a person asks for neither.
func TestWhatWavesDoNotHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	waves := certctl.DeployWaves{Canary: 1, Share: 0.5, Pause: certctl.Duration(time.Hour)}
	c := w.spread(4, waves)
	if n := w.count(`select count(*) from deployment where wait = 'wave'`); n != 0 {
		t.Errorf("%d first installations wait", n)
	}
	version := w.renewLeaf(c)
	w.serve(version)
	if open, waiting := w.claims(version); open != 0 || waiting != 3 {
		t.Errorf("in the pause: %d, %d", open, waiting)
	}
	for _, d := range w.deployments(c) {
		if d.Wait == certctl.WaitWave {
			if d, err := w.RetryDeployment(w.ctx, w.admin, d.ID); err != nil || d.Wait != certctl.WaitNone {
				t.Errorf("by hand: %+v, %v", d, err)
			}
			break
		}
	}
	w.exec(`update version set not_after = now() + interval '1 day' where id = (select replaces from version where id = $1)`, version)
	if open, waiting := w.claims(version); open != 3 || waiting != 0 {
		t.Errorf("with a tenth of the life left: %d, %d", open, waiting)
	}
	w.serve(version)
	if _, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: version, Reason: certctl.ReasonKeyCompromise}); err != nil {
		t.Fatal(err)
	}
	o := w.orders(c, certctl.OrderAwaitingCSR)[0]
	w.exec(`update cert_order set state = 'ready', wait = '' where id = $1`, o.ID)
	w.finish(w.success(w.begin("w", o.ID)[0], o.Names.DNS...))
	if n := w.count(`select count(*) from deployment where wait = 'wave'`); n != 0 {
		t.Errorf("%d replacements of a revoked leaf wait", n)
	}
	w.consistent()
}
