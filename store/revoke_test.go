package store_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/certctl/certctl"
)

func TestACompromisedKeyTakesEverythingWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.target("two")
	c := w.submit(request("shop", "one", "two"))
	var versions []certctl.ID
	for _, o := range w.orders(c, "") {
		versions = append(versions, w.issue(o))
	}
	other := w.submit(request("other"))
	_, err := w.BindTarget(w.ctx, w.admin, "other", certctl.BindingRequest{Target: "one"})
	if err != nil {
		t.Fatal(err)
	}
	same := w.issue(w.orders(other, "")[0])
	w.exec(`update version set spki = (select spki from version where id = $1) where id = $2`, versions[0], same)
	w.hinted("")

	revoked, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: versions[0], Reason: certctl.ReasonKeyCompromise})
	if err != nil || len(revoked) != 2 {
		t.Fatalf("revoked %d, %v", len(revoked), err)
	}
	for _, v := range revoked {
		if v.RevokedAt.IsZero() || v.Revocation != certctl.ReasonKeyCompromise || !slices.Contains([]certctl.ID{versions[0], same}, v.ID) {
			t.Errorf("revoked %+v", v)
		}
	}
	if open := w.orders(c, certctl.OrderAwaitingCSR); len(open) != 1 || open[0].Urgency != certctl.UrgencyNow {
		t.Errorf("replacements %+v", open)
	}
	if open := w.orders(other, certctl.OrderAwaitingCSR); len(open) != 1 {
		t.Errorf("replacements %+v", open)
	}
	if got := w.get(c.ID); got.Status != certctl.StatusRevoked {
		t.Errorf("status %s", got.Status)
	}
	if n := w.count(`select count(*) from due where kind = 'revocation' and verb = 'revoke' and lane = $1`, w.issuer.ID.String()); n != 2 {
		t.Errorf("%d revocations due", n)
	}
	if n := w.count(`select count(*) from revocation where state = 'requested'`); n != 2 {
		t.Errorf("%d revocations requested", n)
	}
	if hinted := w.hinted(certctl.HintRevoke); len(hinted) != 2 {
		t.Errorf("hinted %v", hinted)
	}
	w.consistent()
}

func TestABlockedKeyIsNeverCertifiedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	csr := csrFor(t, "mail.example.com")
	c := w.submit(certctl.CertificateRequest{Name: "mail", Issuers: []string{"local"}, CSR: csr})
	version := w.issue(w.orders(c, "")[0])
	w.exec(`update version set spki = $2 where id = $1`, version, csr.SPKI)
	if _, err := w.SubmitCSR(w.ctx, w.admin, "mail", csr); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: "mail", Reason: certctl.ReasonKeyCompromise}); err != nil {
		t.Fatal(err)
	}
	if cancelled := w.orders(c, certctl.OrderCancelled); len(cancelled) != 1 {
		t.Errorf("cancelled %+v", cancelled)
	}
	if waiting := w.orders(c, certctl.OrderAwaitingCSR); len(waiting) != 1 {
		t.Errorf("waiting %+v", waiting)
	}
	_, err := w.SubmitCSR(w.ctx, w.admin, "mail", csr)
	refused(t, err, certctl.Invalid, "blocked")
	_, err = w.SubmitCertificate(w.ctx, w.admin, certctl.CertificateRequest{Name: "again", Issuers: []string{"local"}, CSR: csr}, certctl.Idempotency{})
	refused(t, err, certctl.Invalid, "blocked")
	w.consistent()
}

func TestOtherReasonsRevokeWhatIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.target("two")
	c := w.submit(request("shop", "one", "two"))
	for _, o := range w.orders(c, "") {
		w.issue(o)
	}
	holder := w.holders(c)[0].Holder.ID
	revoked, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: "shop", Holder: holder, Reason: certctl.ReasonSuperseded, Replace: certctl.ReplaceNo})
	if err != nil || len(revoked) != 1 || revoked[0].Holder != holder {
		t.Fatalf("revoked %+v, %v", revoked, err)
	}
	if open := w.orders(c, certctl.OrderAwaitingCSR); len(open) != 0 {
		t.Errorf("ordered %+v", open)
	}
	_, err = w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: revoked[0].ID, Reason: certctl.ReasonSuperseded})
	refused(t, err, certctl.Conflict, "nothing left")
	_, err = w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: "shop", Reason: "certificateHold"})
	refused(t, err, certctl.Invalid, "/reason")
	_, err = w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Reason: certctl.ReasonSuperseded})
	refused(t, err, certctl.Invalid)
	_, err = w.RevokeVersions(w.ctx, w.member("default", certctl.RoleViewer), certctl.RevokeRequest{Certificate: "shop", Reason: certctl.ReasonSuperseded})
	refused(t, err, certctl.Denied)
	w.consistent()
}

// What nobody here has issued is marked, and said not to be revocable here.
func TestAnImportCannotBeRevokedAtItsIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.imports(importing(t, "old", nil))
	if _, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: "old", Reason: certctl.ReasonUnspecified}); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from revocation where state = 'not_supported'`); n != 1 {
		t.Errorf("%d", n)
	}
	if n := w.count(`select count(*) from due where kind = 'revocation'`); n != 0 {
		t.Errorf("%d due", n)
	}
}

func TestOfManyWhoRevokeOneDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	w.issue(w.orders(c, "")[0])
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			_, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Certificate: "shop", Reason: certctl.ReasonKeyCompromise})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := w.count(`select count(*) from event where name = 'version_revoked'`); n != 1 {
		t.Errorf("%d events", n)
	}
	if open := w.orders(c, certctl.OrderAwaitingCSR); len(open) != 1 {
		t.Errorf("replacements %+v", open)
	}
	w.consistent()
}

// That a key is compromised may be learnt after its certificate was revoked.
func TestAKeyIsBlockedAfterItsVersionWasRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	version := w.issue(w.orders(c, "")[0])
	if _, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: version, Reason: certctl.ReasonSuperseded, Replace: certctl.ReplaceNo}); err != nil {
		t.Fatal(err)
	}
	revoked, err := w.RevokeVersions(w.ctx, w.admin, certctl.RevokeRequest{Version: version, Reason: certctl.ReasonKeyCompromise})
	if err != nil || len(revoked) != 0 {
		t.Errorf("revoked again: %+v, %v", revoked, err)
	}
	if n := w.count(`select count(*) from blocked_key`); n != 1 {
		t.Errorf("%d blocked keys", n)
	}
	if open := w.orders(c, certctl.OrderAwaitingCSR); len(open) != 1 {
		t.Errorf("replacements %+v", open)
	}
	w.consistent()
}
