package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestAnImportIsDeployedWithItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.target("two")
	r := importing(t, "old", nil, "one", "two")
	c := w.imports(r)
	if c.KeyMode != certctl.KeyModeImported || c.NotAfter.IsZero() || c.Status != certctl.StatusDeploying {
		t.Errorf("imported %+v", c)
	}
	holders := w.holders(c)
	if len(holders) != 1 || holders[0].Holder.Kind != certctl.HolderClient || holders[0].Version.Origin != certctl.VersionImported {
		t.Fatalf("holders %+v", holders)
	}
	if len(w.deployments(c)) != 2 || len(w.orders(c, "")) != 0 || !holders[0].Holder.RenewAt.IsZero() {
		t.Error("not deployed once per target, or ordered although nobody issues it")
	}
	r.Name = "again"
	r.Bindings = nil
	r.SealedKey = nil
	_, err := w.ImportCertificate(w.ctx, w.admin, r)
	refused(t, err, certctl.Conflict, "old")
	w.consistent()
}

func TestNodesMakeTheKeysOfAnImportThatIsRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.target("two")
	c := w.imports(importing(t, "old", []string{"local"}, "one", "two"))
	imported := w.holders(c)[0]

	orders, err := w.RenewCertificate(w.ctx, w.admin, "old", certctl.RenewRequest{}, certctl.Idempotency{})
	if err != nil || len(orders) != 2 {
		t.Fatalf("orders %+v, %v", orders, err)
	}
	got := w.get(c.ID)
	if got.KeyMode != certctl.KeyModeAgent || got.Sharing != certctl.SharingPerAgent {
		t.Errorf("%s %s", got.KeyMode, got.Sharing)
	}
	holders := w.holders(c)
	if len(holders) != 2 {
		t.Fatalf("holders %+v", holders)
	}
	for _, h := range holders {
		if h.Holder.Kind != certctl.HolderAgent || len(h.Holder.Members) != 1 {
			t.Errorf("holder %+v", h.Holder)
		}
		if h.Holder.ID == imported.Holder.ID && h.Version.ID != imported.Version.ID {
			t.Error("the history was lost")
		}
	}
	for _, o := range w.orders(c, certctl.OrderAwaitingCSR) {
		w.issue(o)
	}
	if _, err := w.UnbindTarget(w.ctx, w.admin, "old", "one", false); err != nil {
		t.Error(err)
	}
	w.consistent()
}

func TestAnImportWithoutItsKeyWaitsForItsClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	watched := w.imports(importing(t, "watched", nil))
	if watched.Status != certctl.StatusMonitored || len(watched.Issuers) != 0 {
		t.Errorf("watched %+v", watched)
	}
	renewed := w.imports(importing(t, "renewed", []string{"local"}))
	if renewed.Status != certctl.StatusActive || renewed.KeyMode != certctl.KeyModeCSR {
		t.Errorf("imported %+v", renewed)
	}
	order, err := w.SubmitCSR(w.ctx, w.admin, "renewed", csrFor(t, "renewed.example.com"))
	if err != nil || order.State != certctl.OrderReady {
		t.Errorf("order %+v, %v", order, err)
	}
	w.target("one")
	r := importing(t, "keyless", nil, "one")
	r.SealedKey = nil
	_, err = w.ImportCertificate(w.ctx, w.admin, r)
	refused(t, err, certctl.Invalid, "/targets/0")
	r = importing(t, "other", nil)
	r.Names = certctl.Names{DNS: []string{"not.example.com"}}
	_, err = w.ImportCertificate(w.ctx, w.admin, r)
	refused(t, err, certctl.Invalid, "other.example.com")
	r.Leaf = []byte("nonsense")
	_, err = w.ImportCertificate(w.ctx, w.admin, r)
	refused(t, err, certctl.Invalid, "/certificate")
	w.consistent()
}

func TestAKeyModeImportedWithoutTargetsBecomesTheClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := importing(t, "old", []string{"local"})
	r.SealedKey, r.Holder = []byte("sealed"), certctl.NewID(time.Now())
	c := w.imports(r)
	if id := w.holders(c)[0].Holder.ID; id != r.Holder {
		t.Errorf("the key is sealed for %s and held by %s", r.Holder, id)
	}
	if _, err := w.RenewCertificate(w.ctx, w.admin, "old", certctl.RenewRequest{}, certctl.Idempotency{}); err != nil {
		t.Fatal(err)
	}
	if waiting := w.orders(c, certctl.OrderAwaitingCSR); len(waiting) != 1 || waiting[0].Wait != certctl.WaitCSR {
		t.Errorf("waiting %+v", waiting)
	}
	if got := w.get(c.ID); got.KeyMode != certctl.KeyModeCSR {
		t.Errorf("key mode %s", got.KeyMode)
	}
	w.consistent()
}

// What a CA has issued for the account that it has here is asked about there, and
// its renewal replaces it.
func TestAnImportMayBeOfItsIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	foreign, err := w.CreateIssuer(w.ctx, w.admin, certctl.IssuerRequest{Name: "elsewhere", Kind: "acme", Trust: certctl.TrustPublic})
	if err != nil {
		t.Fatal(err)
	}
	r := importing(t, "moved", []string{"elsewhere"})
	r.Issued = true
	c := w.imports(r)
	v := w.holders(c)[0].Version
	if v.Issuer != foreign.ID || v.Origin != certctl.VersionImported {
		t.Errorf("version %+v", v)
	}
	jobs, err := w.RenewalInfoJobs(w.ctx, []certctl.ID{v.ID})
	if err != nil || len(jobs) != 1 || jobs[0].Issuer.ID != foreign.ID {
		t.Errorf("it is asked about as %+v, %v", jobs, err)
	}
	for _, issuers := range [][]string{nil, {"local"}} {
		r := importing(t, "other", issuers)
		r.Issued = true
		_, err := w.ImportCertificate(w.ctx, w.admin, r)
		refused(t, err, certctl.Invalid, "/issued_by_issuer")
	}
	w.consistent()
}
