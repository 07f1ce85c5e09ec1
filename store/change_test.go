package store_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func TestAChangeOfWhatALeafContainsReplacesOpenOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.target("two")
	c := w.submit(request("shop", "one", "two"))
	orders := w.orders(c, "")
	w.exec(`update cert_order set state = 'processing' where id = $1`, orders[0].ID)

	names := certctl.Names{DNS: []string{"new.example.com"}}
	changed, err := w.UpdateCertificate(w.ctx, w.admin, "shop", certctl.CertificatePatch{Names: &names, IfRevision: 1})
	if err != nil {
		t.Fatal(err)
	}
	if changed.Revision != 2 || !changed.Names.Equal(names) {
		t.Errorf("changed %+v", changed)
	}
	if left := w.orders(c, certctl.OrderProcessing); len(left) != 1 || left[0].Revision != 1 {
		t.Errorf("what is at the CA: %+v", left)
	}
	cancelled, made := w.orders(c, certctl.OrderCancelled), w.orders(c, certctl.OrderAwaitingCSR)
	if len(cancelled) != 1 || len(made) != 1 || made[0].Revision != 2 || made[0].Holder != cancelled[0].Holder || !made[0].Names.Equal(names) {
		t.Errorf("cancelled %+v, made %+v", cancelled, made)
	}

	_, err = w.UpdateCertificate(w.ctx, w.admin, "shop", certctl.CertificatePatch{Names: &names, IfRevision: 1})
	refused(t, err, certctl.Conflict, "revision 2")
	bad := certctl.Names{Email: []string{"a@example.com"}}
	_, err = w.UpdateCertificate(w.ctx, w.admin, "shop", certctl.CertificatePatch{Names: &bad})
	refused(t, err, certctl.Invalid, "/email_addresses")
	nobody := "nobody"
	_, err = w.UpdateCertificate(w.ctx, w.admin, "shop", certctl.CertificatePatch{Profile: &nobody})
	refused(t, err, certctl.Invalid, "/profile")

	owner, labels := "ada", map[string]string{"env": "prod"}
	changed, err = w.UpdateCertificate(w.ctx, w.admin, "shop", certctl.CertificatePatch{Owner: &owner, Labels: &labels, Names: &names})
	if err != nil || changed.Revision != 2 || changed.Owner != owner || changed.Labels["env"] != "prod" {
		t.Errorf("changed %+v, %v", changed, err)
	}
	w.consistent()
}

func TestAClientsRequestOutlivesAChangeOfIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.CreateIssuer(w.ctx, w.admin, certctl.IssuerRequest{Name: "second", Kind: certctl.IssuerLocal}); err != nil {
		t.Fatal(err)
	}
	csr := csrFor(t, "mail.example.com")
	c := w.submit(certctl.CertificateRequest{Name: "mail", Issuers: []string{"local"}, CSR: csr})
	issuers := []string{"second", "local"}
	if _, err := w.UpdateCertificate(w.ctx, w.admin, "mail", certctl.CertificatePatch{Issuers: &issuers}); err != nil {
		t.Fatal(err)
	}
	ready := w.orders(c, certctl.OrderReady)
	if len(ready) != 1 || !slices.Equal(ready[0].CSR, csr.DER) || ready[0].Issuer == w.issuer.ID {
		t.Errorf("ready %+v", ready)
	}
	names := certctl.Names{DNS: []string{"other.example.com"}}
	if _, err := w.UpdateCertificate(w.ctx, w.admin, "mail", certctl.CertificatePatch{Names: &names}); err != nil {
		t.Fatal(err)
	}
	if waiting := w.orders(c, certctl.OrderAwaitingCSR); len(waiting) != 1 || waiting[0].Wait != certctl.WaitCSR {
		t.Errorf("waiting %+v", waiting)
	}
	var none []string
	watched, err := w.UpdateCertificate(w.ctx, w.admin, "mail", certctl.CertificatePatch{Issuers: &none})
	if err != nil || watched.Status != certctl.StatusMonitored || len(w.orders(c, certctl.OrderAwaitingCSR)) != 0 {
		t.Errorf("watched %+v, %v", watched, err)
	}
	w.consistent()
}

func TestAnotherPolicyMovesTheRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	never, late := certctl.DefaultRenewalPolicy(), certctl.DefaultRenewalPolicy()
	never.Name, never.AutoRenew = "never", false
	late.Name, late.Jitter, late.Before = "late", 0, certctl.Duration(10*certctl.Day)
	for _, policy := range []certctl.RenewalPolicy{never, late} {
		if _, err := w.CreateRenewalPolicy(w.ctx, w.admin, policy); err != nil {
			t.Fatal(err)
		}
	}
	c := w.imports(importing(t, "old", []string{"local"}))
	if at := w.holders(c)[0].Holder.RenewAt; at.IsZero() {
		t.Fatal("an import with an issuer is never due")
	}
	policy := "late"
	if _, err := w.UpdateCertificate(w.ctx, w.admin, "old", certctl.CertificatePatch{RenewalPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
	h := w.holders(c)[0]
	if want := h.Version.NotAfter.Add(-10 * certctl.Day); h.Holder.RenewAt.Sub(want).Abs() > 2*time.Second || !h.Version.RenewAt.Equal(h.Holder.RenewAt) {
		t.Errorf("due at %v, want %v", h.Holder.RenewAt, want)
	}
	policy = "never"
	if _, err := w.UpdateCertificate(w.ctx, w.admin, "old", certctl.CertificatePatch{RenewalPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
	if h := w.holders(c)[0]; !h.Holder.RenewAt.IsZero() || !h.Version.RenewAt.IsZero() {
		t.Errorf("due at %v", h.Holder.RenewAt)
	}
	w.consistent()
}

func TestABoundAgentInstallsWhatItHoldsOrGetsAnOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.targetOn("one-more", "agent-one")
	w.target("two")
	c := w.submit(request("shop"))

	bind := func(target string) certctl.Certificate {
		t.Helper()
		c, err := w.BindTarget(w.ctx, w.admin, "shop", certctl.BindingRequest{Target: target})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	bind("one")
	open := w.orders(c, certctl.OrderAwaitingCSR)
	if len(open) != 1 {
		t.Fatalf("orders %+v", open)
	}
	version := w.issue(open[0])
	w.hinted("")

	if c := bind("one-more"); c.Status != certctl.StatusDeploying {
		t.Errorf("status %s", c.Status)
	}
	deployed := w.deployments(c)
	i := slices.IndexFunc(deployed, func(d certctl.Deployment) bool { return d.State == certctl.DeploymentPending })
	if len(deployed) != 2 || i < 0 || deployed[i].Version != version || deployed[i].DueAt.IsZero() {
		t.Fatalf("deployments %+v", deployed)
	}
	if rung := w.hinted(certctl.HintBell); !slices.Contains(rung, deployed[i].Agent) {
		t.Errorf("rang %v", rung)
	}
	bind("two")
	if open := w.orders(c, certctl.OrderAwaitingCSR); len(open) != 1 || len(w.holders(c)) != 2 {
		t.Errorf("orders %+v", open)
	}
	_, err := w.BindTarget(w.ctx, w.admin, "shop", certctl.BindingRequest{Target: "two"})
	refused(t, err, certctl.Conflict, "shop")
	w.submit(certctl.CertificateRequest{Name: "mail", Issuers: []string{"local"}, CSR: csrFor(t, "mail.example.com")})
	_, err = w.BindTarget(w.ctx, w.admin, "mail", certctl.BindingRequest{Target: "two"})
	refused(t, err, certctl.Conflict, "key")
	w.consistent()
}

func TestUnbindingEndsAHolderWithItsLastBinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.targetOn("one-more", "agent-one")
	w.target("two")
	c := w.submit(request("shop", "one", "one-more", "two"))
	for _, o := range w.orders(c, "") {
		w.issue(o)
	}
	w.exec(`update binding set number = 7`)
	if _, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{}); err != nil {
		t.Fatal(err)
	}

	unbind := func(target string, remove bool) certctl.Certificate {
		t.Helper()
		c, err := w.UnbindTarget(w.ctx, w.admin, "shop", target, remove)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	unbind("one", true)
	if len(w.holders(c)) != 2 || len(w.orders(c, certctl.OrderAwaitingCSR)) != 2 {
		t.Error("a holder ended with a binding left")
	}
	unbind("one-more", false)
	if len(w.holders(c)) != 1 || len(w.orders(c, certctl.OrderAwaitingCSR)) != 1 || len(w.orders(c, certctl.OrderCancelled)) != 1 {
		t.Error("a holder did not end with its last binding")
	}
	if n := w.count(`select count(*) from binding where unbound_at is not null and remove`); n != 1 {
		t.Errorf("%d to remove", n)
	}
	if n := w.count(`select count(*) from due where kind = 'binding' and verb = 'bell' and agent_id is not null`); n != 2 {
		t.Errorf("%d due", n)
	}
	_, err := w.UnbindTarget(w.ctx, w.admin, "shop", "one", false)
	refused(t, err, certctl.NotFound, "not bound")

	// The agent that let go begins anew, with another key.
	if _, err := w.BindTarget(w.ctx, w.admin, "shop", certctl.BindingRequest{Target: "one"}); err != nil {
		t.Fatal(err)
	}
	if len(w.holders(c)) != 2 || len(w.orders(c, certctl.OrderAwaitingCSR)) != 2 {
		t.Errorf("orders %+v", w.orders(c, ""))
	}
	w.consistent()
}

func TestAnArchivedCertificateLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	w.issue(w.orders(c, "")[0])
	if _, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{}); err != nil {
		t.Fatal(err)
	}
	if err := w.ArchiveCertificate(w.ctx, w.admin, "shop"); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from due where kind <> 'binding'`); n != 0 {
		t.Errorf("%d due", n)
	}
	if got := w.get(c.ID); got.Status != certctl.StatusArchived || got.ArchivedAt.IsZero() || len(got.Bindings) != 0 {
		t.Errorf("archived %+v", got)
	}
	_, err := w.GetCertificate(w.ctx, w.admin, "shop")
	refused(t, err, certctl.NotFound)
	_, err = w.RenewCertificate(w.ctx, w.admin, c.ID.String(), certctl.RenewRequest{}, certctl.Idempotency{})
	refused(t, err, certctl.Gone)
	w.submit(request("shop", "one")) // name and place are free again
	page, err := w.ListCertificates(w.ctx, w.admin, certctl.CertificateFilter{Archived: true})
	if err != nil || len(page.Items) != 1 || page.Items[0].ID != c.ID {
		t.Errorf("archived ones: %+v, %v", page, err)
	}
	w.consistent()
}

func TestRenewByHandOvertakesWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.target("two")
	c := w.submit(request("shop", "one", "two"))
	orders := w.orders(c, "")
	w.issue(orders[0])
	w.exec(`update cert_order set state = 'ready', wait = 'backoff', urgency = 2 where id = $1`, orders[1].ID)
	w.exec(`update due set due_at = now() + interval '6 hours', verb = 'issue', lane = $2 where id = $1`, orders[1].ID, w.issuer.ID.String())
	w.hinted("")

	idem := certctl.Idempotency{Key: "k", Hash: certctl.DigestOf([]byte("renew"))}
	renewed, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, idem)
	if err != nil || len(renewed) != 2 {
		t.Fatalf("renewed %+v, %v", renewed, err)
	}
	if hinted := w.hinted(certctl.HintIssue); !slices.Equal(hinted, []certctl.ID{orders[1].ID}) {
		t.Errorf("hinted %v", hinted)
	}
	for _, o := range renewed {
		if o.ID == orders[1].ID && (o.Wait != certctl.WaitNone || o.Urgency != certctl.UrgencyNow || time.Until(o.DueAt) > time.Hour) {
			t.Errorf("pulled forward %+v", o)
		}
		if o.ID != orders[1].ID && (o.Holder != orders[0].Holder || o.State != certctl.OrderAwaitingCSR) {
			t.Errorf("made %+v", o)
		}
	}
	again, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, idem)
	if err != nil || len(again) != 2 {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	one, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{Holder: orders[0].Holder}, certctl.Idempotency{})
	if err != nil || len(one) != 1 || one[0].Holder != orders[0].Holder {
		t.Errorf("one holder: %+v, %v", one, err)
	}
	_, err = w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{Holder: c.ID}, certctl.Idempotency{})
	refused(t, err, certctl.NotFound)
	w.submit(request("unbound"))
	_, err = w.RenewCertificate(w.ctx, w.admin, "unbound", certctl.RenewRequest{}, certctl.Idempotency{})
	refused(t, err, certctl.Conflict, "no target")
	w.consistent()
}

func TestManyWhoRenewMakeOneOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	w.issue(w.orders(c, "")[0])
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			orders, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{})
			if err != nil || len(orders) != 1 {
				t.Errorf("%+v, %v", orders, err)
			}
		})
	}
	group.Wait()
	if open := w.orders(c, certctl.OrderAwaitingCSR); len(open) != 1 {
		t.Errorf("%d open", len(open))
	}
	w.consistent()
}

func TestAClientSendsItsNextRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.submit(certctl.CertificateRequest{Name: "mail", Names: certctl.Names{DNS: []string{"mail.example.com"}}, Issuers: []string{"local"}, KeyMode: certctl.KeyModeCSR})
	waiting := w.orders(c, certctl.OrderAwaitingCSR)
	if len(waiting) != 1 || waiting[0].Wait != certctl.WaitCSR || waiting[0].DueAt.IsZero() {
		t.Fatalf("waiting %+v", waiting)
	}
	_, err := w.SubmitCSR(w.ctx, w.admin, "mail", csrFor(t, "other.example.com"))
	refused(t, err, certctl.Invalid, "/csr")

	csr := csrFor(t)
	order, err := w.SubmitCSR(w.ctx, w.admin, "mail", csr)
	if err != nil || order.ID != waiting[0].ID || order.State != certctl.OrderReady {
		t.Fatalf("order %+v, %v", order, err)
	}
	again, err := w.SubmitCSR(w.ctx, w.admin, "mail", csr)
	if err != nil || again.ID != order.ID {
		t.Errorf("again %+v, %v", again, err)
	}
	_, err = w.SubmitCSR(w.ctx, w.admin, "mail", csrFor(t))
	refused(t, err, certctl.Conflict, "already")
	w.issue(order)
	next, err := w.SubmitCSR(w.ctx, w.admin, "mail", csrFor(t, "mail.example.com"))
	if err != nil || next.ID == order.ID || next.State != certctl.OrderReady {
		t.Errorf("next %+v, %v", next, err)
	}
	w.target("one")
	w.submit(request("shop", "one"))
	_, err = w.SubmitCSR(w.ctx, w.admin, "shop", csr)
	refused(t, err, certctl.Conflict, "nodes")
	w.consistent()
}

func TestACancelledRenewalIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	w.issue(w.orders(c, "")[0])
	orders, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}
	w.exec(`delete from due where kind = 'holder'`)
	cancelled, err := w.CancelOrder(w.ctx, w.admin, orders[0].ID)
	if err != nil || cancelled.State != certctl.OrderCancelled || cancelled.ClosedAt.IsZero() {
		t.Fatalf("cancelled %+v, %v", cancelled, err)
	}
	if at := w.holders(c)[0].Holder.RenewAt; time.Until(at) < 23*time.Hour {
		t.Errorf("due at %v", at)
	}
	_, err = w.CancelOrder(w.ctx, w.admin, orders[0].ID)
	refused(t, err, certctl.Conflict, "cancelled")
	_, err = w.CancelOrder(w.ctx, w.admin, c.ID)
	refused(t, err, certctl.NotFound)
	w.consistent()
}

func TestAFailedDeploymentIsTriedAgainByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	w.issue(w.orders(c, "")[0])
	d := w.deployments(c)[0]
	_, err := w.RetryDeployment(w.ctx, w.admin, d.ID)
	refused(t, err, certctl.Conflict, "verified")
	w.exec(`update deployment set state = 'rolled_back', message = 'nginx said no', tries = 3 where id = $1`, d.ID)
	w.exec(`insert into due (kind, id, verb, lane, urgency, due_at) values ('deployment', $1, 'expire', '-', 2, now() + interval '6 hours')`, d.ID)
	retried, err := w.RetryDeployment(w.ctx, w.admin, d.ID)
	if err != nil || retried.State != certctl.DeploymentPending || time.Until(retried.DueAt) > time.Hour {
		t.Errorf("retried %+v, %v", retried, err)
	}
	if got := w.get(c.ID); got.Status != certctl.StatusDeploying {
		t.Errorf("status %s", got.Status)
	}
	w.consistent()
}

func TestASecondPersonApproves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := certctl.DefaultProfile()
	p.Name, p.Approval = "careful", true
	if _, err := w.CreateProfile(w.ctx, w.admin, p); err != nil {
		t.Fatal(err)
	}
	w.target("one")
	agent, client := request("shop", "one"), certctl.CertificateRequest{Name: "mail", Issuers: []string{"local"}, CSR: csrFor(t, "mail.example.com")}
	agent.Profile, client.Profile = "careful", "careful"
	second := w.member("", certctl.RoleOperator)
	for name, r := range map[certctl.OrderState]certctl.CertificateRequest{certctl.OrderAwaitingCSR: agent, certctl.OrderReady: client} {
		c := w.submit(r)
		waiting := w.orders(c, certctl.OrderAwaitingApproval)
		if len(waiting) != 1 || waiting[0].DueAt.IsZero() || c.StatusReason != "waits for approval" {
			t.Fatalf("waiting %+v, %s", waiting, c.StatusReason)
		}
		_, err := w.ApproveOrder(w.ctx, w.admin, waiting[0].ID)
		refused(t, err, certctl.Denied, "asked")
		approved, err := w.ApproveOrder(w.ctx, second, waiting[0].ID)
		if err != nil || approved.State != name || w.get(c.ID).StatusReason == c.StatusReason {
			t.Errorf("approved %+v, %v", approved, err)
		}
		_, err = w.ApproveOrder(w.ctx, second, waiting[0].ID)
		refused(t, err, certctl.Conflict)
	}
	w.consistent()
}
