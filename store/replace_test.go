package store_test

import (
	"testing"

	"github.com/certctl/certctl"
)

// settle has waiting revocations looked at as if they were due.
func (w *world) settle(versions ...certctl.ID) int {
	w.t.Helper()
	n, err := w.SettleRevocations(w.ctx, versions)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) revokedNow(version certctl.ID) bool {
	w.t.Helper()
	return w.count(`select count(*) from version where id = $1 and revoked_at is not null`, version) == 1
}

func TestWhatIsSupersededIsRevokedOnceItIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	first := w.issue(w.orders(c, "")[0])
	second := w.issue(w.renewed(c))
	answer, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: "shop", Reason: certctl.ReasonSuperseded})
	if err != nil || len(answer) != 2 {
		t.Fatalf("%+v, %v", answer, err)
	}
	if !w.revokedNow(first) || w.revokedNow(second) {
		t.Error("what nobody serves any more is revoked now, what is served waits")
	}
	waiting, err := w.ListRevocations(w.ctx, w.admin, certctl.RevocationFilter{Certificate: "shop", State: certctl.RevocationWaiting})
	if err != nil || len(waiting.Items) != 1 || waiting.Items[0].Version != second || waiting.Items[0].DueAt.IsZero() {
		t.Fatalf("waiting %+v, %v", waiting, err)
	}
	open := w.orders(c, certctl.OrderAwaitingCSR)
	if len(open) != 1 || open[0].Urgency != certctl.UrgencyNow || w.settle(second) != 0 {
		t.Fatalf("open %+v", open)
	}
	_, err = w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: "shop", Reason: certctl.ReasonSuperseded})
	refused(t, err, certctl.Conflict, "nothing left")
	third := w.issue(open[0])
	w.exec(`update deployment set state = 'installing' where version_id = $1`, third)
	if w.settle(second) != 0 || w.revokedNow(second) {
		t.Error("revoked while the new leaf is not verified")
	}
	w.exec(`update deployment set state = 'verified' where version_id = $1`, third)
	if w.settle(second) != 1 || !w.revokedNow(second) || w.revokedNow(third) {
		t.Error("not revoked although it is replaced everywhere")
	}
	if n := w.count(`select count(*) from due where kind = 'revocation' and verb = 'revoke' and id = $1`, second); n != 1 {
		t.Errorf("its issuer is told %d times", n)
	}
	w.consistent()
}

// renewed orders a renewal of a certificate with one holder.
func (w *world) renewed(c certctl.Certificate) certctl.Order {
	w.t.Helper()
	orders, err := w.RenewCertificate(w.ctx, w.admin, c.ID.String(), certctl.RenewRequest{}, certctl.Idempotency{})
	if err != nil {
		w.t.Fatal(err)
	}
	return orders[0]
}

func TestAWaitingRevocationCanBeCancelledOrHurried(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	version := w.issue(w.orders(c, "")[0])
	w.team("mail")
	later := certctl.RevokeRequest{Version: version, Reason: certctl.ReasonSuperseded}
	if _, err := w.RevokeVersions(w.ctx, w.admin, later); err != nil {
		t.Fatal(err)
	}
	_, err := w.CancelRevocation(w.ctx, w.member("default", certctl.RoleViewer), version)
	refused(t, err, certctl.Denied)
	_, err = w.CancelRevocation(w.ctx, w.member("mail", certctl.RoleAdmin), version)
	refused(t, err, certctl.NotFound)
	cancelled, err := w.CancelRevocation(w.ctx, w.admin, version)
	if err != nil || cancelled.State != certctl.RevocationCancelled || !cancelled.DueAt.IsZero() {
		t.Fatalf("%+v, %v", cancelled, err)
	}
	_, err = w.CancelRevocation(w.ctx, w.admin, version)
	refused(t, err, certctl.Conflict, "cancelled")
	w.issue(w.orders(c, certctl.OrderAwaitingCSR)[0])
	if w.settle(version) != 0 || w.revokedNow(version) {
		t.Error("revoked after it was cancelled")
	}

	current := w.holders(c)[0].Version.ID
	later.Version = current
	if _, err := w.RevokeVersions(w.ctx, w.admin, later); err != nil {
		t.Fatal(err)
	}
	now := certctl.RevokeRequest{Version: current, Reason: certctl.ReasonCessationOfOperation}
	if _, err := w.RevokeVersions(w.ctx, w.admin, now); err != nil || !w.revokedNow(current) {
		t.Errorf("not revoked at once: %v", err)
	}
	if n := w.count(`select count(*) from revocation where version_id = $1 and state = 'requested' and reason = 'cessationOfOperation'`, current); n != 1 {
		t.Error("the issuer is not told")
	}
	w.consistent()
}

// A refused replacement is ordered again, and what is archived meanwhile is
// revoked without one.
func TestAWaitingRevocationIsNeverForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	version := w.issue(w.orders(c, "")[0])
	if _, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: "shop", Reason: certctl.ReasonSuperseded}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CancelOrder(w.ctx, w.admin, w.orders(c, certctl.OrderAwaitingCSR)[0].ID); err != nil {
		t.Fatal(err)
	}
	if w.settle(version) != 0 || len(w.orders(c, certctl.OrderAwaitingCSR)) != 0 {
		t.Error("ordered again at once")
	}
	w.exec(`update revocation set ordered_at = ordered_at - interval '25 hours'`)
	if w.settle(version) != 0 || len(w.orders(c, certctl.OrderAwaitingCSR)) != 1 {
		t.Error("not ordered again a day later")
	}
	w.consistent()
	if err := w.ArchiveCertificate(w.ctx, w.admin, "shop"); err != nil {
		t.Fatal(err)
	}
	if w.settle(version) != 1 || !w.revokedNow(version) {
		t.Error("what nothing will replace is not revoked")
	}
	w.consistent()
}
