package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// closedNow is a window that is open once a year, half a year from now.
func closedNow() certctl.Window {
	return certctl.Window{Cron: fmt.Sprintf("0 0 1 %d *", int(time.Now().Month()+5)%12+1), Duration: certctl.Duration(time.Hour)}
}

// due makes every newest version of a certificate due for renewal, with most of
// its life left.
func (w *world) due(c certctl.Certificate) {
	w.t.Helper()
	w.exec(`update version set renew_at = now() - interval '1 minute' where certificate_id = $1`, c.ID)
	w.exec(`update due set due_at = now() where kind = 'holder' and id in (select id from holder where certificate_id = $1)`, c.ID)
}

// sweeps lets the sweep look at the certificate's holders, and returns how many
// orders it made.
func (w *world) sweeps(c certctl.Certificate) int {
	w.t.Helper()
	var ids []certctl.ID
	for _, h := range w.holders(c) {
		ids = append(ids, h.Holder.ID)
	}
	n, err := w.RenewHolders(w.ctx, ids)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// active submits a certificate and issues it.
func (w *world) active(r certctl.CertificateRequest) certctl.Certificate {
	w.t.Helper()
	c := w.submit(r)
	for _, o := range w.orders(c, "") {
		w.issue(o)
	}
	return c
}

func (w *world) freeze(f certctl.Freeze) certctl.Freeze {
	w.t.Helper()
	f, err := w.CreateFreeze(w.ctx, w.admin, f)
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

func TestAFreezeHoldsRenewalsUntilItEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	r := request("shop", "one")
	r.Labels = map[string]string{"env": "prod", "app": "shop"}
	c := w.active(r)
	other := w.active(request("other", "one"))
	w.freeze(certctl.Freeze{Name: "december", Reason: "sales", Labels: map[string]string{"env": "prod"}})
	w.due(c)
	w.due(other)
	if n := w.sweeps(other); n != 1 {
		t.Errorf("%d renewals of one that the freeze is not about", n)
	}
	if n := w.sweeps(c); n != 0 {
		t.Errorf("%d renewals during a freeze", n)
	}
	if n := w.count(`select count(*) from due where kind = 'holder' and due_at > now() and id in (select id from holder where certificate_id = $1)`, c.ID); n != 1 {
		t.Errorf("%d holders are looked at again", n)
	}
	_, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{})
	if certctl.ErrorCode(err) != certctl.Conflict || !strings.Contains(err.Error(), "december") {
		t.Errorf("by hand: %v", err)
	}
	if _, err := w.CreateFreeze(w.ctx, w.admin, certctl.Freeze{Name: "december"}); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("a second of the name: %v", err)
	}
	if _, err := w.CreateFreeze(w.ctx, w.member("web", certctl.RoleOperator), certctl.Freeze{Name: "mine"}); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("by somebody of a team: %v", err)
	}
	if err := w.EndFreeze(w.ctx, w.admin, "december"); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from due where kind = 'holder' and due_at <= now()`); n != 1 {
		t.Errorf("%d holders are due after the freeze", n)
	}
	if n := w.sweeps(c); n != 1 {
		t.Errorf("%d renewals after the freeze", n)
	}
	w.consistent()
}

func TestAnOverrideStandsInTheOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.active(request("shop", "one"))
	w.freeze(certctl.Freeze{Name: "december", Hard: true})
	orders, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{Override: "the key has leaked"}, certctl.Idempotency{})
	if err != nil || len(orders) != 1 || orders[0].Override != "the key has leaked" {
		t.Fatalf("%+v, %v", orders, err)
	}
	if n := w.count(`select count(*) from event where object_id = $1 and name = 'order_created' and convert_from(body, 'UTF8')::jsonb->'data'->>'override' = 'true'`, c.ID); n != 1 {
		t.Errorf("%d events tell of it", n)
	}
	w.issue(w.orders(c, certctl.OrderAwaitingCSR)[0])
	if d := w.deployments(c)[0]; d.Wait != certctl.WaitNone {
		t.Errorf("what was ordered by hand waits: %q", d.Wait)
	}
	w.consistent()
}

func TestDeploymentsOfRenewalsWaitForAWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	policy := certctl.DefaultRenewalPolicy()
	policy.Name, policy.DeployWindows = "nights", []certctl.Window{closedNow()}
	if _, err := w.CreateRenewalPolicy(w.ctx, w.admin, policy); err != nil {
		t.Fatal(err)
	}
	r := request("shop", "one")
	r.RenewalPolicy = "nights"
	c := w.active(r)
	if d := w.deployments(c)[0]; d.Wait != certctl.WaitNone {
		t.Fatalf("the first installation waits: %q", d.Wait)
	}
	w.exec(`update deployment set state = 'verified'`)
	w.exec(`delete from due where kind = 'deployment'`)
	w.due(c)
	if n := w.sweeps(c); n != 1 {
		t.Fatalf("%d renewals", n)
	}
	o := w.orders(c, certctl.OrderAwaitingCSR)[0]
	w.exec(`update cert_order set state = 'ready', wait = '' where id = $1`, o.ID)
	w.finish(w.success(w.begin("issuing", o.ID)[0], o.Names.DNS...))
	held := w.deployments(c)[0]
	if held.Wait != certctl.WaitWindow || !held.DueAt.After(time.Now().Add(time.Hour)) {
		t.Fatalf("waits for %q until %s", held.Wait, held.DueAt)
	}
	// What is claimed too early goes back.
	w.exec(`update due set due_at = now() where kind = 'deployment'`)
	hints, err := w.ClaimDue(w.ctx, 100, time.Minute)
	if err != nil || len(hints) != 0 || w.deployments(c)[0].Wait != certctl.WaitWindow {
		t.Errorf("hints %+v, %v", hints, err)
	}
	policy.DeployWindows = nil
	if _, err := w.UpdateRenewalPolicy(w.ctx, w.admin, "nights", policy); err != nil {
		t.Fatal(err)
	}
	w.exec(`update due set due_at = now() where kind = 'deployment'`)
	if hints, err = w.ClaimDue(w.ctx, 100, time.Minute); err != nil || len(hints) != 1 || hints[0].Verb != certctl.HintBell {
		t.Errorf("hints %+v, %v", hints, err)
	}
	if d := w.deployments(c)[0]; d.Wait != certctl.WaitNone {
		t.Errorf("still waits for %q", d.Wait)
	}
	w.consistent()
}

func TestAPausedCertificateIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.active(request("shop", "one"))
	if c, err := w.PauseCertificate(w.ctx, w.admin, "shop", true); err != nil || !c.Paused {
		t.Fatal(err)
	}
	w.due(c)
	if n := w.sweeps(c); n != 0 {
		t.Errorf("%d renewals of a paused certificate", n)
	}
	if _, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{}); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("by hand: %v", err)
	}
	w.consistent()
	w.hinted("")
	if _, err := w.PauseCertificate(w.ctx, w.admin, "shop", false); err != nil {
		t.Fatal(err)
	}
	if hinted := w.hinted(certctl.HintRenew); !slices.Contains(hinted, w.holders(c)[0].Holder.ID) {
		t.Errorf("resuming hints at %v", hinted)
	}
	if n := w.sweeps(c); n != 1 {
		t.Errorf("%d renewals after the pause", n)
	}
	w.consistent()
}

func TestExplanations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.active(request("shop", "one"))
	says := func(want string) {
		t.Helper()
		e, err := w.ExplainCertificate(w.ctx, w.admin, "shop")
		if err != nil || len(e.Holders) != 1 {
			t.Fatalf("%+v, %v", e, err)
		}
		if text := strings.Join(e.Sentences(e.Holders[0]), " "); !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	w.exec(`update version set renew_at = now() + interval '3 days'`)
	says("It will be renewed ")
	w.freeze(certctl.Freeze{Name: "early", EndsAt: time.Now().Add(30 * certctl.Day)})
	says("but the freeze early holds it: it will be renewed ")
	if err := w.EndFreeze(w.ctx, w.admin, "early"); err != nil {
		t.Fatal(err)
	}
	w.due(c)
	says("It is due now (renew at)")
	w.freeze(certctl.Freeze{Name: "december"})
	says("the freeze december holds it")
	if err := w.EndFreeze(w.ctx, w.admin, "december"); err != nil {
		t.Fatal(err)
	}
	preview, err := w.PreviewRenewal(w.ctx, w.admin, "shop", certctl.RenewRequest{})
	if err != nil || len(preview) != 1 || preview[0].Action != certctl.PreviewOrder || !slices.Equal(preview[0].Targets, []string{"one"}) {
		t.Errorf("preview %+v, %v", preview, err)
	}
	if n := len(w.orders(c, "")); n != 1 {
		t.Errorf("a preview made an order: %d", n)
	}
	w.sweeps(c)
	says("waits for agent agent-one to make a key")
	if preview, err = w.PreviewRenewal(w.ctx, w.admin, "shop", certctl.RenewRequest{}); err != nil || preview[0].Action != certctl.PreviewHurry {
		t.Errorf("preview %+v, %v", preview, err)
	}
	if _, err := w.PauseCertificate(w.ctx, w.admin, "shop", true); err != nil {
		t.Fatal(err)
	}
	says("paused")
}
