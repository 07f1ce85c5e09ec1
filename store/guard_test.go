package store_test

import (
	"fmt"
	"testing"

	"github.com/certctl/certctl"
)

// holderIDs are the live holders of all certificates.
func (w *world) holderIDs() (ids []certctl.ID) {
	w.t.Helper()
	if err := w.Pool().QueryRow(w.ctx, `select array(select id from holder where ended_at is null order by id)`).Scan(&ids); err != nil {
		w.t.Fatal(err)
	}
	return ids
}

func (w *world) sweepAll() int {
	w.t.Helper()
	n, err := w.RenewHolders(w.ctx, w.holderIDs())
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// A new release that raises every revision, and what does not wait for anybody.
func TestTheGuardHoldsAFleetUntilItIsReleased(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manyVersions(60, 0)
	w.exec(`update certificate set revision = revision + 1`)
	w.exec(`update version set not_after = now() + interval '1 day' where certificate_id = (select id from certificate where name = 'many1')`)
	w.exec(`update version set renew_at = now() where certificate_id = (select id from certificate where name = 'many2')`)
	w.exec(`update version set revoked_at = now() where certificate_id = (select id from certificate where name = 'many3')`)
	if n := w.sweepAll(); n != 3 {
		t.Errorf("%d ordered", n)
	}
	if n := w.count(`select count(*) from due where kind = 'holder' and due_at > now()`); n != 57 {
		t.Errorf("%d are looked at again", n)
	}
	if n := w.count(`select count(*) from event where name = 'guard_held'`); n != 1 {
		t.Errorf("%d events", n)
	}
	e, err := w.ExplainCertificate(w.ctx, w.admin, "many9")
	if err != nil || e.Holders[0].Decision.Wait != certctl.WaitGuard || e.Holders[0].Decision.Due {
		t.Errorf("explained %+v, %v", e.Holders, err)
	}
	planned, err := w.PlannedHolders(w.ctx, w.admin, certctl.PlanFilter{})
	if err != nil || !planned[len(planned)-1].Facts.Guarded {
		t.Errorf("the plan does not know of the guard: %v", err)
	}
	if g, err := w.GetGuard(w.ctx, w.admin); err != nil || g.HeldAt.IsZero() || g.Fleet != 60 || g.Waiting < 57 {
		t.Errorf("%+v, %v", g, err)
	}
	_, err = w.ReleaseGuard(w.ctx, w.member("default", certctl.RoleAdmin))
	refused(t, err, certctl.Denied, "every team")
	_, err = w.ReleaseGuard(w.ctx, w.member("", certctl.RoleViewer))
	refused(t, err, certctl.Denied)
	if n, err := w.ReleaseGuard(w.ctx, w.admin); err != nil || n < 57 {
		t.Fatalf("released %d, %v", n, err)
	}
	if n := w.count(`select count(*) from due where kind = 'holder' and due_at <= now()`); n != 57 {
		t.Errorf("%d are due now", n)
	}
	if n := w.sweepAll(); n != 57 {
		t.Errorf("%d ordered after the release", n)
	}
	w.exec(`update certificate set revision = revision + 1`)
	w.exec(`update cert_order set state = 'cancelled', closed_at = now() where live`)
	w.exec(`delete from due where kind = 'order'`)
	if n := w.sweepAll(); n != 3 {
		t.Errorf("%d of a change after the release are ordered", n)
	}
}

// Many edits, one after the other, are one change.
func TestTheGuardHoldsAScriptOfEdits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.manyVersions(60, 0)
	for i := 1; i <= 60; i++ {
		name := fmt.Sprintf("many%d", i)
		names := certctl.Names{DNS: []string{name + ".example.org"}}
		if _, err := w.UpdateCertificate(w.ctx, w.admin, name, certctl.CertificatePatch{Names: &names}); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.count(`select count(*) from cert_order where live`); n != 12 {
		t.Errorf("%d of 60 ordered, want a fifth", n)
	}
	if n := w.count(`select count(*) from due where kind = 'holder'`); n != 48 {
		t.Errorf("%d wait", n)
	}
	r := w.roll(certctl.RolloutRequest{Selection: certctl.Selection{Issuer: "local"}, Pace: certctl.RolloutPace{Canary: 60}})
	w.steps(r.ID, 1)
	w.exec(`update rollout set began_at = began_at - interval '20 hours'`)
	if w.steps(r.ID, 1); w.count(`select count(*) from cert_order where live`) < 48 {
		t.Error("a rollout does not take what the guard holds")
	}
	if err := w.SetGuard(w.ctx, 1, 0); err != nil {
		t.Fatal(err)
	}
	w.sweepAll()
	if n := w.count(`select count(*) from cert_order where live`); n != 60 {
		t.Errorf("%d ordered without a limit", n)
	}
	if err := w.SetGuard(w.ctx, 1.5, 50); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("%v", err)
	}
	w.consistent()
}
