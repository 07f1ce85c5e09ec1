package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestRollbackStaysUntilTheNextChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.active(request("shop", "one"))
	first := w.holders(c)[0].Version.ID
	_, err := w.RollBackCertificate(w.ctx, w.admin, "shop", certctl.RollbackRequest{})
	refused(t, err, certctl.Conflict, "earlier")
	names := certctl.Names{DNS: []string{"shop.example.com", "new.example.com"}}
	if _, err := w.UpdateCertificate(w.ctx, w.admin, "shop", certctl.CertificatePatch{Names: &names}); err != nil {
		t.Fatal(err)
	}
	w.issue(w.orders(c, certctl.OrderAwaitingCSR)[0])
	_, err = w.RollBackCertificate(w.ctx, w.admin, "shop", certctl.RollbackRequest{Version: w.holders(c)[0].Version.ID})
	refused(t, err, certctl.Conflict, "redeploy")
	back, err := w.RollBackCertificate(w.ctx, w.admin, "shop", certctl.RollbackRequest{})
	if err != nil || len(back) != 1 || back[0].Version != first || back[0].State != certctl.DeploymentPending {
		t.Fatalf("%+v, %v", back, err)
	}
	now := w.holders(c)[0]
	if now.Version.ID != first || now.Version.RenewAt.Before(time.Now().Add(29*certctl.Day)) {
		t.Errorf("current is %s, renewed %s", now.Version.ID, now.Version.RenewAt)
	}
	if n := w.sweeps(c); n != 0 {
		t.Errorf("%d renewals at once", n)
	}
	names.DNS = names.DNS[:1]
	if _, err := w.UpdateCertificate(w.ctx, w.admin, "shop", certctl.CertificatePatch{Names: &names}); err != nil {
		t.Fatal(err)
	}
	if open := w.orders(c, certctl.OrderAwaitingCSR); len(open) != 1 {
		t.Errorf("%d orders after the next change", len(open))
	}
	w.consistent()
}

func TestRollbackToWhatIsNotToBeTrusted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.active(request("shop", "one"))
	first := w.holders(c)[0].Version.ID
	w.due(c)
	w.sweeps(c)
	w.issue(w.orders(c, certctl.OrderAwaitingCSR)[0])
	w.exec(`update version set revoked_at = now(), revocation = 'superseded' where id = $1`, first)
	_, err := w.RollBackCertificate(w.ctx, w.admin, "shop", certctl.RollbackRequest{})
	refused(t, err, certctl.Conflict, "is revoked")
	w.exec(`update version set not_before = not_before - interval '90 days', not_after = now() - interval '1 day' where id = $1`, first)
	_, err = w.RollBackCertificate(w.ctx, w.admin, "shop", certctl.RollbackRequest{Force: true})
	refused(t, err, certctl.Conflict, "has ended")
	w.exec(`update version set not_after = now() + interval '1 day' where id = $1`, first)
	if _, err := w.RollBackCertificate(w.ctx, w.admin, "shop", certctl.RollbackRequest{Force: true}); err != nil {
		t.Error(err)
	}
	w.consistent()
}

func TestRedeployInstallsAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.target("two")
	c := w.active(request("shop", "one", "two"))
	again, err := w.RedeployCertificate(w.ctx, w.admin, "shop", "two")
	if err != nil || len(again) != 1 || again[0].Target.Name != "two" || again[0].State != certctl.DeploymentPending {
		t.Fatalf("%+v, %v", again, err)
	}
	if again, err = w.RedeployCertificate(w.ctx, w.admin, "shop", ""); err != nil || len(again) != 2 {
		t.Errorf("%+v, %v", again, err)
	}
	_, err = w.RedeployCertificate(w.ctx, w.admin, "shop", "three")
	refused(t, err, certctl.NotFound, "three")
	if got := w.get(c.ID); got.Status != certctl.StatusDeploying {
		t.Errorf("status %s", got.Status)
	}
	w.consistent()
}
