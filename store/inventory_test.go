package store_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

func TestWhatCertificatesUseIsNotArchived(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	w.submit(request("shop", "one"))
	archive := map[string]func() error{
		"issuer":         func() error { return w.ArchiveIssuer(w.ctx, w.admin, "local") },
		"profile":        func() error { return w.ArchiveProfile(w.ctx, w.admin, "server") },
		"renewal policy": func() error { return w.ArchiveRenewalPolicy(w.ctx, w.admin, "default") },
		"target":         func() error { return w.ArchiveTarget(w.ctx, w.admin, "one") },
	}
	for what, do := range archive {
		refused(t, do(), certctl.Conflict, "shop", what)
	}
	if err := w.ArchiveCertificate(w.ctx, w.admin, "shop"); err != nil {
		t.Fatal(err)
	}
	for what, do := range archive {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		refused(t, do(), certctl.NotFound)
	}
	_, err := w.SubmitCertificate(w.ctx, w.admin, request("late"), certctl.Idempotency{})
	refused(t, err, certctl.Invalid, "/profile")
	r := request("late")
	r.Issuers = []string{w.issuer.ID.String()}
	_, err = w.SubmitCertificate(w.ctx, w.admin, r, certctl.Idempotency{})
	refused(t, err, certctl.Invalid)
	w.consistent()
}

func TestProfilesAndPoliciesAreStoredWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := certctl.DefaultProfile()
	p.Name, p.ReuseKey, p.NameRules.Allow = "own", true, []string{"*.example.com"}
	made, err := w.CreateProfile(w.ctx, w.admin, p)
	if err != nil || made.ID.IsZero() || made.Team != certctl.DefaultTeam || !made.ReuseKey || made.NameRules.Allow[0] != "*.example.com" {
		t.Fatalf("made %+v, %v", made, err)
	}
	_, err = w.CreateProfile(w.ctx, w.admin, p)
	refused(t, err, certctl.Conflict, "own")
	p.Validity = 1
	_, err = w.CreateProfile(w.ctx, w.admin, p)
	refused(t, err, certctl.Invalid, "/validity")
	made.Name, made.Description = "renamed", "of ours"
	changed, err := w.UpdateProfile(w.ctx, w.admin, "own", made)
	if err != nil || changed.Name != "renamed" || changed.Description != "of ours" || changed.ID != made.ID || !changed.CreatedAt.Equal(made.CreatedAt) {
		t.Errorf("changed %+v, %v", changed, err)
	}
	made.Name = "server"
	_, err = w.UpdateProfile(w.ctx, w.admin, "renamed", made)
	refused(t, err, certctl.Conflict, "server")
	if page, err := w.ListProfiles(w.ctx, w.admin, certctl.NamedFilter{}); err != nil || len(page.Items) != 2 || page.Items[0].ID != made.ID {
		t.Errorf("listed %+v, %v", page, err)
	}
	policy := certctl.DefaultRenewalPolicy()
	policy.Fraction = 0.5
	if got, err := w.UpdateRenewalPolicy(w.ctx, w.admin, "default", policy); err != nil || got.Fraction != 0.5 || len(got.AlertBefore) != 4 {
		t.Errorf("policy %+v, %v", got, err)
	}
	if got, err := w.GetRenewalPolicy(w.ctx, w.admin, "default"); err != nil || got.Fraction != 0.5 {
		t.Errorf("policy %+v, %v", got, err)
	}
	if page, err := w.ListRenewalPolicies(w.ctx, w.admin, certctl.NamedFilter{}); err != nil || len(page.Items) != 1 {
		t.Errorf("listed %+v, %v", page, err)
	}
	_, err = w.GetProfile(w.ctx, w.admin, "nobody")
	refused(t, err, certctl.NotFound)
}

func TestAnIssuersChangeEndsTheWaitForIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.submit(certctl.CertificateRequest{Name: "mail", Issuers: []string{"local"}, CSR: csrFor(t, "mail.example.com")})
	w.exec(`update due set due_at = now() + interval '6 hours'`)
	w.exec(`update issuer set sealed = 'secret'`)
	request := certctl.IssuerRequest{Name: "renamed", Settings: json.RawMessage(`{"url":"https://ca"}`), Concurrency: 3}
	changed, err := w.UpdateIssuer(w.ctx, w.admin, "local", request)
	if err != nil || changed.Name != "renamed" || changed.Kind != certctl.IssuerLocal || changed.Concurrency != 3 || !strings.Contains(string(changed.Settings), "https://ca") {
		t.Errorf("changed %+v, %v", changed, err)
	}
	if n := w.count(`select count(*) from due where due_at > now() and kind = 'order'`); n != 0 {
		t.Errorf("%d wait", n)
	}
	if n := w.count(`select count(*) from issuer where sealed = 'secret'`); n != 1 {
		t.Error("the secret was lost")
	}
	request.Kind = "acme"
	_, err = w.UpdateIssuer(w.ctx, w.admin, "renamed", request)
	refused(t, err, certctl.Invalid, "/kind")
	_, err = w.CreateIssuer(w.ctx, w.admin, certctl.IssuerRequest{Name: "x", Kind: "local", Settings: json.RawMessage(`[]`), Concurrency: -1})
	refused(t, err, certctl.Invalid, "/settings", "1 more")
	if got, err := w.GetIssuer(w.ctx, w.admin, "renamed"); err != nil || got.Trust != certctl.TrustPrivate || got.Health != certctl.HealthUnknown {
		t.Errorf("%+v, %v", got, err)
	}
	if page, err := w.ListIssuers(w.ctx, w.admin, certctl.NamedFilter{}); err != nil || len(page.Items) != 1 {
		t.Errorf("listed %+v, %v", page, err)
	}
}

func TestNewSettingsOfATargetAreInstalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	target := w.target("one")
	c := w.submit(request("shop", "one"))
	w.issue(w.orders(c, "")[0])
	w.hinted("")
	same, err := w.UpdateTarget(w.ctx, w.admin, "one", certctl.TargetRequest{Name: "one", Labels: map[string]string{"a": "b"}})
	if err != nil || same.Revision != 1 || same.Labels["a"] != "b" || len(w.hinted(certctl.HintBell)) != 0 {
		t.Errorf("unchanged %+v, %v", same, err)
	}
	changed, err := w.UpdateTarget(w.ctx, w.admin, "one", certctl.TargetRequest{Name: "uno", Agent: target.Agent.ID.String(), Settings: json.RawMessage(`{"directory":"/x"}`)})
	if err != nil || changed.Revision != 2 || changed.Name != "uno" || changed.Agent != target.Agent {
		t.Fatalf("changed %+v, %v", changed, err)
	}
	if rung := w.hinted(certctl.HintBell); !slices.Equal(rung, []certctl.ID{target.Agent.ID}) {
		t.Errorf("rang %v", rung)
	}
	if d := w.deployments(c)[0]; d.State != certctl.DeploymentPending || w.get(c.ID).Status != certctl.StatusDeploying {
		t.Errorf("deployment %+v", d)
	}
	w.agent("other")
	for field, request := range map[string]certctl.TargetRequest{
		"/agent": {Name: "uno", Agent: "other"}, "/kind": {Name: "uno", Kind: "nginx"}, "/name": {Name: ""}, "/settings": {Name: "uno", Settings: json.RawMessage(`3`)},
	} {
		_, err := w.UpdateTarget(w.ctx, w.admin, "uno", request)
		refused(t, err, certctl.Invalid, field)
	}
	_, err = w.CreateTarget(w.ctx, w.admin, certctl.TargetRequest{Name: "two", Agent: "nobody", Kind: "files"})
	refused(t, err, certctl.Invalid, "/agent")
	_, err = w.CreateTarget(w.ctx, w.admin, certctl.TargetRequest{Name: "uno", Agent: "other", Kind: "files"})
	refused(t, err, certctl.Conflict, "uno")
	if page, err := w.ListTargets(w.ctx, w.admin, certctl.TargetFilter{Agent: "agent-one", Kind: "files"}); err != nil || len(page.Items) != 1 {
		t.Errorf("listed %+v, %v", page, err)
	}
	w.consistent()
}

func TestVersionsOrdersAndDeploymentsAreRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	order := w.orders(c, "")[0]
	version := w.issue(order)
	v, err := w.GetVersion(w.ctx, w.admin, version)
	if err != nil || v.Certificate != c.ID || v.Order != order.ID || len(v.Leaf) == 0 || v.Purpose != certctl.PurposeUser {
		t.Errorf("version %+v, %v", v, err)
	}
	for _, filter := range []certctl.VersionFilter{{}, {Certificate: "shop"}, {Holder: v.Holder}, {Serial: v.Serial}, {Team: "default"}} {
		if page, err := w.ListVersions(w.ctx, w.admin, filter); err != nil || len(page.Items) != 1 || page.Items[0].ID != version {
			t.Errorf("%+v: %+v, %v", filter, page, err)
		}
	}
	for _, filter := range []certctl.DeploymentFilter{{}, {Certificate: "shop"}, {Target: "one"}, {Agent: "agent-one"}, {State: certctl.DeploymentVerified}, {Team: "default"}} {
		if page, err := w.ListDeployments(w.ctx, w.admin, filter); err != nil || len(page.Items) != 1 || page.Items[0].Target.Name != "one" {
			t.Errorf("%+v: %+v, %v", filter, page, err)
		}
	}
	attempts, err := w.ListAttempts(w.ctx, w.admin, order.ID)
	if err != nil || len(attempts) != 1 || attempts[0].Serial != "0a1b" || attempts[0].Outcome != certctl.AttemptIssued {
		t.Errorf("attempts %+v, %v", attempts, err)
	}
	if o, err := w.GetOrder(w.ctx, w.admin, order.ID); err != nil || o.State != certctl.OrderIssued || o.Version != version {
		t.Errorf("order %+v, %v", o, err)
	}
	w.team("web")
	stranger := w.member("web", certctl.RoleAdmin)
	_, err = w.GetOrder(w.ctx, stranger, order.ID)
	refused(t, err, certctl.NotFound, "order")
	_, err = w.GetVersion(w.ctx, stranger, version)
	refused(t, err, certctl.NotFound, "version")
	_, err = w.ListAttempts(w.ctx, stranger, order.ID)
	refused(t, err, certctl.NotFound, "order")
	_, err = w.CancelOrder(w.ctx, stranger, order.ID)
	refused(t, err, certctl.NotFound, "order")
	_, err = w.RetryDeployment(w.ctx, stranger, w.deployments(c)[0].ID)
	refused(t, err, certctl.NotFound, "deployment")
	_, err = w.RevokeVersions(w.ctx, stranger, certctl.RevokeRequest{Version: version, Reason: certctl.ReasonKeyCompromise})
	refused(t, err, certctl.NotFound)
}
