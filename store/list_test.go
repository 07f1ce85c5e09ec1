package store_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// names returns the names of the certificates that a filter selects, sorted.
func (w *world) names(actor certctl.Actor, filter certctl.CertificateFilter) []string {
	w.t.Helper()
	page, err := w.ListCertificates(w.ctx, actor, filter)
	if err != nil {
		w.t.Fatalf("%+v: %v", filter, err)
	}
	var names []string
	for _, c := range page.Items {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}

func TestFiltersSelectCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.CreateIssuer(w.ctx, w.admin, certctl.IssuerRequest{Name: "second", Kind: certctl.IssuerLocal}); err != nil {
		t.Fatal(err)
	}
	all := certctl.DefaultProfile()
	all.Name, all.NameRules.URI, all.NameRules.Email = "all", true, true
	if _, err := w.CreateProfile(w.ctx, w.admin, all); err != nil {
		t.Fatal(err)
	}
	w.target("one")
	w.target("two")
	shop := request("shop", "one")
	shop.Labels = map[string]string{"env": "prod", "tier": "1"}
	w.submit(shop)
	shopping := request("shop_ping", "two")
	shopping.Labels, shopping.Issuers = map[string]string{"env": "prod"}, []string{"second", "local"}
	w.submit(shopping)
	typed := request("typed")
	typed.Profile, typed.Issuers = "all", nil
	typed.Names = certctl.Names{DNS: []string{"*.wild.example"}, IP: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fe80::1")},
		URI: []string{"spiffe://example/a"}, Email: []string{"Ada@example.com"}}
	w.submit(typed)
	old := w.imports(importing(t, "old", nil))
	serial := string(w.holders(old)[0].Version.Serial)

	for _, test := range []struct {
		filter certctl.CertificateFilter
		want   string
	}{
		{certctl.CertificateFilter{}, "[old shop shop_ping typed]"},
		{certctl.CertificateFilter{Status: certctl.StatusPending}, "[shop shop_ping]"},
		{certctl.CertificateFilter{Issuer: "local"}, "[shop shop_ping]"},
		{certctl.CertificateFilter{Issuer: "second"}, "[shop_ping]"},
		{certctl.CertificateFilter{Target: "one"}, "[shop]"},
		{certctl.CertificateFilter{Agent: "agent-two"}, "[shop_ping]"},
		{certctl.CertificateFilter{Label: map[string]string{"env": "prod"}}, "[shop shop_ping]"},
		{certctl.CertificateFilter{Label: map[string]string{"env": "prod", "tier": "1"}}, "[shop]"},
		{certctl.CertificateFilter{Name: "shop"}, "[shop]"},
		{certctl.CertificateFilter{Name: "shop*"}, "[shop shop_ping]"},
		{certctl.CertificateFilter{Name: "shop_*"}, "[shop_ping]"},
		{certctl.CertificateFilter{Query: "shop.example.com"}, "[shop]"},
		{certctl.CertificateFilter{Query: "SHOP.Example.com."}, "[shop]"},
		{certctl.CertificateFilter{Query: "sho"}, "[shop shop_ping]"},
		{certctl.CertificateFilter{Query: "*.wild.example"}, "[typed]"},
		{certctl.CertificateFilter{Query: "10.1.2.3"}, "[typed]"},
		{certctl.CertificateFilter{Query: "fe80::1"}, "[typed]"},
		{certctl.CertificateFilter{Query: "spiffe://example/a"}, "[typed]"},
		{certctl.CertificateFilter{Query: "Ada@EXAMPLE.com"}, "[typed]"},
		{certctl.CertificateFilter{Query: serial}, "[old]"},
		{certctl.CertificateFilter{Query: "0x00" + serial}, "[old]"},
		{certctl.CertificateFilter{Query: "nothing"}, "[]"},
		{certctl.CertificateFilter{ExpiresBefore: time.Now().Add(61 * certctl.Day)}, "[old]"},
		{certctl.CertificateFilter{ExpiresBefore: time.Now().Add(59 * certctl.Day)}, "[]"},
		{certctl.CertificateFilter{Archived: true}, "[]"},
		{certctl.CertificateFilter{Team: "nobody"}, "[]"},
	} {
		if got := fmt.Sprint(w.names(w.admin, test.filter)); got != test.want {
			t.Errorf("%+v: %s, want %s", test.filter, got, test.want)
		}
	}
	_, err := w.ListCertificates(w.ctx, w.admin, certctl.CertificateFilter{Issuer: "nobody"})
	refused(t, err, certctl.NotFound, "issuer")
}

func TestPagesCoverAListOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var requests []certctl.CertificateRequest
	for i := range 25 {
		requests = append(requests, request(fmt.Sprintf("c%d", i)))
	}
	if _, err := w.SubmitCertificates(w.ctx, w.admin, requests); err != nil {
		t.Fatal(err)
	}
	var names []string
	filter := certctl.CertificateFilter{PageRequest: certctl.PageRequest{Limit: 5}}
	for pages := 1; ; pages++ {
		page, err := w.ListCertificates(w.ctx, w.admin, filter)
		if err != nil || len(page.Items) != 5 {
			t.Fatalf("page %d: %d, %v", pages, len(page.Items), err)
		}
		for _, c := range page.Items {
			names = append(names, c.Name)
		}
		if filter.Cursor = page.Next; page.Next == "" {
			break
		}
		if pages == 2 { // what is new meanwhile moves nothing
			w.submit(request("new"))
		}
	}
	for i, name := range names {
		if name != fmt.Sprintf("c%d", 24-i) {
			t.Fatalf("listed %v", names)
		}
	}
	if len(names) != 25 {
		t.Errorf("listed %v", names)
	}
	for _, bad := range []certctl.PageRequest{{Cursor: "x"}, {Cursor: "AQ"}, {Cursor: "AgAAAAAAAAAAAAAAAAAAAAA"}, {Cursor: "!!"}, {Limit: -1}, {Limit: certctl.MaxPage + 1}} {
		_, err := w.ListCertificates(w.ctx, w.admin, certctl.CertificateFilter{PageRequest: bad})
		refused(t, err, certctl.Invalid)
	}
}

func TestTeamsSeeTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.team("web")
	web := w.member("web", certctl.RoleAdmin)
	theirs := w.submit(request("shop"))
	if _, err := w.SubmitCertificate(w.ctx, web, request("shop"), certctl.Idempotency{}); err == nil {
		t.Error("a team used an issuer that it does not have")
	}
	// What a team has hides what the default team offers.
	if _, err := w.CreateProfile(w.ctx, web, certctl.DefaultProfile()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateRenewalPolicy(w.ctx, web, certctl.DefaultRenewalPolicy()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateIssuer(w.ctx, web, certctl.IssuerRequest{Name: "local", Kind: certctl.IssuerLocal}); err != nil {
		t.Fatal(err)
	}
	ours, err := w.SubmitCertificate(w.ctx, web, request("shop"), certctl.Idempotency{})
	if err != nil || ours.Certificate.Team != "web" || ours.Certificate.Issuers[0].ID == w.issuer.ID {
		t.Fatalf("%+v, %v", ours, err)
	}
	got, err := w.GetCertificate(w.ctx, web, "shop")
	if err != nil || got.ID != ours.Certificate.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := w.GetCertificate(w.ctx, w.admin, "shop"); err != nil || got.ID != theirs.ID {
		t.Errorf("the default team comes first: %+v, %v", got, err)
	}
	for what, err := range map[string]error{
		"get": func() error { _, err := w.GetCertificate(w.ctx, web, theirs.ID.String()); return err }(),
		"update": func() error {
			_, err := w.UpdateCertificate(w.ctx, web, theirs.ID.String(), certctl.CertificatePatch{})
			return err
		}(),
		"archive": w.ArchiveCertificate(w.ctx, web, theirs.ID.String()),
		"issuer":  w.ArchiveIssuer(w.ctx, web, w.issuer.ID.String()),
		"renew": func() error {
			_, err := w.RenewCertificate(w.ctx, web, theirs.ID.String(), certctl.RenewRequest{}, certctl.Idempotency{})
			return err
		}(),
	} {
		if certctl.ErrorCode(err) != certctl.NotFound {
			t.Errorf("%s: %v", what, err)
		}
	}
	if names := w.names(web, certctl.CertificateFilter{Team: certctl.DefaultTeam}); len(names) != 0 {
		t.Errorf("a team listed another's: %v", names)
	}
	r := request("more")
	r.Team = certctl.DefaultTeam
	_, err = w.SubmitCertificate(w.ctx, web, r, certctl.Idempotency{})
	refused(t, err, certctl.Invalid, "/team")
	r.Team = "web"
	if c := w.submit(r); c.Team != "web" || c.Issuers[0].ID == w.issuer.ID {
		t.Errorf("%+v", c)
	}

	page, err := w.ListOrders(w.ctx, web, certctl.OrderFilter{})
	if err != nil || len(page.Items) != 0 {
		t.Errorf("orders: %+v, %v", page, err)
	}
	events, err := w.ListEvents(w.ctx, web, certctl.EventFilter{})
	if err != nil || len(events) == 0 || slices.ContainsFunc(events, func(e certctl.Event) bool { return e.Team != "web" }) {
		t.Errorf("events: %+v, %v", events, err)
	}
}

func TestRolesDecide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	viewer, operator := w.member("", certctl.RoleViewer), w.member("", certctl.RoleOperator)
	if _, err := w.GetCertificate(w.ctx, viewer, "shop"); err != nil {
		t.Error(err)
	}
	order := w.orders(c, "")[0].ID
	for what, do := range map[string]func(certctl.Actor) error{
		"submit": func(a certctl.Actor) error {
			_, err := w.SubmitCertificate(w.ctx, a, request("x"), certctl.Idempotency{})
			return err
		},
		"update": func(a certctl.Actor) error {
			_, err := w.UpdateCertificate(w.ctx, a, "shop", certctl.CertificatePatch{})
			return err
		},
		"renew": func(a certctl.Actor) error {
			_, err := w.RenewCertificate(w.ctx, a, "shop", certctl.RenewRequest{}, certctl.Idempotency{})
			return err
		},
		"bind": func(a certctl.Actor) error {
			_, err := w.BindTarget(w.ctx, a, "x", certctl.BindingRequest{Target: "one"})
			return err
		},
		"cancel":  func(a certctl.Actor) error { _, err := w.CancelOrder(w.ctx, a, order); return err },
		"archive": func(a certctl.Actor) error { return w.ArchiveCertificate(w.ctx, a, "shop") },
	} {
		if err := do(viewer); certctl.ErrorCode(err) != certctl.Denied && what != "bind" {
			t.Errorf("a viewer may %s: %v", what, err)
		}
	}
	_, err := w.CreateIssuer(w.ctx, operator, certctl.IssuerRequest{Name: "x", Kind: certctl.IssuerLocal})
	refused(t, err, certctl.Denied)
	if _, err := w.SubmitCertificate(w.ctx, operator, request("x"), certctl.Idempotency{}); err != nil {
		t.Error(err)
	}
	w.consistent()
}

func TestEventsTellTheHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	if err := w.ArchiveCertificate(w.ctx, w.admin, "shop"); err != nil {
		t.Fatal(err)
	}
	events, err := w.ListEvents(w.ctx, w.admin, certctl.EventFilter{Object: c.ID})
	if err != nil {
		t.Fatal(err)
	}
	var names []certctl.EventName
	for i, e := range events {
		names = append(names, e.Name)
		if e.Sequence != int64(i+1) || e.Actor != "admin" || e.Aggregate != certctl.AggregateCertificate {
			t.Errorf("event %+v", e)
		}
	}
	want := []certctl.EventName{certctl.EventCertificateCreated, certctl.EventOrderCreated, certctl.EventCertificateUnbound,
		certctl.EventOrderCancelled, certctl.EventCertificateArchived}
	if !slices.Equal(names, want) {
		t.Errorf("events %v", names)
	}
	newest, err := w.ListEvents(w.ctx, w.admin, certctl.EventFilter{Object: c.ID, Newest: true, Limit: 2})
	if err != nil || len(newest) != 2 || newest[0].Name != certctl.EventCertificateArchived {
		t.Fatalf("newest %+v, %v", newest, err)
	}
	older, err := w.ListEvents(w.ctx, w.admin, certctl.EventFilter{Object: c.ID, Newest: true, After: newest[1].ID})
	if err != nil || len(older) != 3 || older[0].Name != certctl.EventCertificateUnbound {
		t.Errorf("older %+v, %v", older, err)
	}
	after, err := w.ListEvents(w.ctx, w.admin, certctl.EventFilter{Object: c.ID, After: events[3].ID, Name: certctl.EventCertificateArchived, Since: time.Now().Add(-time.Hour)})
	if err != nil || len(after) != 1 {
		t.Errorf("after %+v, %v", after, err)
	}
	w.exec(`insert into event (id, team_id, aggregate, object_id, sequence, name, actor, outcome, body, sha256)
		select $1, id, 'access', id, 1, 'request_denied', 'x', 'denied', '{"aggregate":"access","data":{}}', sha256('{"aggregate":"access","data":{}}') from team`, certctl.NewID(time.Now()))
	access := certctl.EventFilter{Aggregate: certctl.AggregateAccess}
	if seen, err := w.ListEvents(w.ctx, w.member("", certctl.RoleViewer), access); err != nil || len(seen) != 0 {
		t.Errorf("a viewer sees %+v, %v", seen, err)
	}
	if seen, err := w.ListEvents(w.ctx, w.member("", certctl.RoleAuditor), access); err != nil || len(seen) != 1 {
		t.Errorf("an auditor sees %+v, %v", seen, err)
	}
}
