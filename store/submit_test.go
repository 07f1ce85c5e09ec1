package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/certctl/certctl"
)

func TestEachAgentOfACertificateHoldsAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.target("one"), w.target("two")
	w.targetOn("one-more", "agent-one")
	w.hinted("")

	c := w.submit(request("shop", "one", "one-more", "two"))

	if c.Status != certctl.StatusPending || c.KeyMode != certctl.KeyModeAgent || c.Revision != 1 || c.Team != certctl.DefaultTeam {
		t.Errorf("submitted %+v", c)
	}
	if got := w.get(c.ID); got.StatusReason != c.StatusReason || got.Status != c.Status || len(got.Bindings) != 3 || got.Issuers[0].Name != "local" {
		t.Errorf("stored %+v, answered %+v", got, c)
	}
	orders := w.orders(c, certctl.OrderAwaitingCSR)
	if len(orders) != 2 || orders[0].Wait != certctl.WaitHolder || orders[0].DueAt.IsZero() || orders[0].Profile.Name != "server" {
		t.Fatalf("orders %+v", orders)
	}
	rung := w.hinted(certctl.HintBell)
	if !slices.Contains(rung, one.Agent.ID) || !slices.Contains(rung, two.Agent.ID) || len(rung) != 2 {
		t.Errorf("rang %v", rung)
	}
	w.consistent()
}

func TestAClientsRequestIsReadyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hinted("")
	c := w.submit(certctl.CertificateRequest{Name: "mail", Issuers: []string{"local"}, CSR: csrFor(t, "mail.example.com")})

	if c.KeyMode != certctl.KeyModeCSR || !slices.Equal(c.Names.DNS, []string{"mail.example.com"}) {
		t.Errorf("submitted %+v", c)
	}
	orders := w.orders(c, certctl.OrderReady)
	if len(orders) != 1 || orders[0].HolderKind != certctl.HolderClient || len(orders[0].CSR) == 0 {
		t.Fatalf("orders %+v", orders)
	}
	if hinted := w.hinted(certctl.HintIssue); !slices.Equal(hinted, []certctl.ID{orders[0].ID}) {
		t.Errorf("hinted %v", hinted)
	}
	w.consistent()
}

func TestAnAgentsCertificateWithoutATargetWaitsForOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.submit(request("later"))
	if c.Status != certctl.StatusPending || c.StatusReason == "" || len(w.orders(c, "")) != 0 {
		t.Errorf("submitted %+v", c)
	}
	if got := w.get(c.ID); got.StatusReason != c.StatusReason {
		t.Errorf("reason %q", got.StatusReason)
	}
	w.consistent()
}

func TestSubmissionsThatAreRefusedSayWhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("web")
	w.submit(request("taken", "web"))
	csr := csrFor(t, "a.example.com")
	for name, test := range map[string]struct {
		change func(*certctl.CertificateRequest)
		code   certctl.Code
		field  string
	}{
		"no name":            {func(r *certctl.CertificateRequest) { r.Name = "" }, certctl.Invalid, "/name"},
		"no names":           {func(r *certctl.CertificateRequest) { r.Names = certctl.Names{} }, certctl.Invalid, "/dns_names"},
		"names of no type":   {func(r *certctl.CertificateRequest) { r.Names.Email = []string{"a@example.com"} }, certctl.Invalid, "/email_addresses"},
		"bad name":           {func(r *certctl.CertificateRequest) { r.Names.DNS = []string{"ok.example", "a b"} }, certctl.Invalid, "/dns_names/1"},
		"unknown issuer":     {func(r *certctl.CertificateRequest) { r.Issuers = []string{"nobody"} }, certctl.Invalid, "/issuer"},
		"unknown second":     {func(r *certctl.CertificateRequest) { r.Issuers = []string{"local", "nobody"} }, certctl.Invalid, "/issuers/1"},
		"issuer twice":       {func(r *certctl.CertificateRequest) { r.Issuers = []string{"local", "local"} }, certctl.Invalid, "/issuers/1"},
		"unknown profile":    {func(r *certctl.CertificateRequest) { r.Profile = "nobody" }, certctl.Invalid, "/profile"},
		"unknown policy":     {func(r *certctl.CertificateRequest) { r.RenewalPolicy = "nobody" }, certctl.Invalid, "/renewal_policy"},
		"unknown team":       {func(r *certctl.CertificateRequest) { r.Team = "nobody" }, certctl.Invalid, "/team"},
		"unknown target":     {func(r *certctl.CertificateRequest) { r.Bindings[0].Target = "nobody" }, certctl.Invalid, "/targets/0"},
		"unknown target id":  {func(r *certctl.CertificateRequest) { r.Bindings[0].Target = w.issuer.ID.String() }, certctl.Invalid, "/targets/0"},
		"target twice":       {func(r *certctl.CertificateRequest) { r.Bindings = append(r.Bindings, r.Bindings[0]) }, certctl.Invalid, "/targets/1"},
		"place outside":      {func(r *certctl.CertificateRequest) { r.Bindings[0].Place = "../etc" }, certctl.Invalid, "/targets/0/place"},
		"unknown slot":       {func(r *certctl.CertificateRequest) { r.Bindings[0].Slot = "dsa" }, certctl.Invalid, "/targets/0/slot"},
		"unknown sharing":    {func(r *certctl.CertificateRequest) { r.Sharing = "each" }, certctl.Invalid, "/sharing"},
		"imported key":       {func(r *certctl.CertificateRequest) { r.KeyMode = certctl.KeyModeImported }, certctl.Invalid, "/key_mode"},
		"request and target": {func(r *certctl.CertificateRequest) { r.CSR, r.Names = csr, certctl.Names{} }, certctl.Invalid, "/targets/0"},
		"request of others":  {func(r *certctl.CertificateRequest) { r.CSR, r.Bindings = csr, nil }, certctl.Invalid, "/csr"},
		"name taken":         {func(r *certctl.CertificateRequest) { r.Name, r.Bindings = "taken", nil }, certctl.Conflict, "/name"},
		"place taken":        {func(r *certctl.CertificateRequest) { r.Bindings[0].Place = "taken" }, certctl.Conflict, "/targets/0"},
	} {
		r := request("new", "web")
		test.change(&r)
		_, err := w.SubmitCertificate(w.ctx, w.admin, r, certctl.Idempotency{})
		var e *certctl.Error
		if !errors.As(err, &e) || e.Code != test.code ||
			!slices.ContainsFunc(e.Fields, func(f certctl.FieldError) bool { return f.Field == test.field }) {
			t.Errorf("%s: got %v, want %s about %s", name, err, test.code, test.field)
		}
	}
	if n := w.count(`select count(*) from certificate`); n != 1 {
		t.Errorf("%d certificates", n)
	}
	w.consistent()
}

func TestABadItemOfManyFailsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("web")
	var requests []certctl.CertificateRequest
	for i := range 300 {
		r := request(fmt.Sprintf("c%d", i))
		if i%3 == 0 {
			r = request(r.Name, "web")
		}
		r.Origin = certctl.OriginBulk
		requests = append(requests, r)
	}
	requests[7].Name = "c6"
	requests[8].Issuers = []string{"nobody"}
	requests[9].Bindings[0].Place = "c3"

	results, err := w.SubmitCertificates(w.ctx, w.admin, requests)
	if err != nil {
		t.Fatal(err)
	}
	for i, result := range results {
		if bad := i >= 7 && i <= 9; bad != (result.Err != nil) {
			t.Errorf("item %d: %v", i, result.Err)
		}
		if result.Err == nil && result.Certificate.Name != requests[i].Name {
			t.Errorf("item %d became %s", i, result.Certificate.Name)
		}
	}
	refused(t, results[7].Err, certctl.Conflict, "c6")
	refused(t, results[8].Err, certctl.Invalid, "/issuer")
	refused(t, results[9].Err, certctl.Conflict, "c3")
	if n := w.count(`select count(*) from certificate`); n != 297 {
		t.Errorf("%d certificates", n)
	}
	if n := w.count(`select count(*) from cert_order where urgency = 3`); n != 99 {
		t.Errorf("%d orders", n)
	}
	w.consistent()
}

func TestARepeatedRequestGetsTheSameCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	idem := certctl.Idempotency{Key: "k", Hash: certctl.DigestOf([]byte("body"))}
	const repeats = 8
	ids := make([]certctl.ID, repeats)
	var group sync.WaitGroup
	for i := range repeats {
		group.Go(func() {
			c, err := w.SubmitCertificate(w.ctx, w.admin, request("shop"), idem)
			if err != nil {
				t.Error(err)
			}
			ids[i] = c.Certificate.ID
		})
	}
	group.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("got %v", ids)
		}
	}

	_, err := w.SubmitCertificate(w.ctx, w.admin, request("other"), certctl.Idempotency{Key: "k", Hash: certctl.DigestOf([]byte("another"))})
	refused(t, err, certctl.Invalid)
	if !errors.Is(err, certctl.ErrIdempotencyReuse) {
		t.Errorf("%v is not ErrIdempotencyReuse", err)
	}
	// A request that failed has not used its key up.
	bad := request("bad")
	bad.Profile = "nobody"
	fresh := certctl.Idempotency{Key: "k2", Hash: certctl.DigestOf([]byte("x"))}
	_, err = w.SubmitCertificate(w.ctx, w.admin, bad, fresh)
	refused(t, err, certctl.Invalid)
	bad.Profile = ""
	if _, err := w.SubmitCertificate(w.ctx, w.admin, bad, fresh); err != nil {
		t.Error(err)
	}
	// Another principal's keys are his own.
	if _, err := w.SubmitCertificate(w.ctx, w.member("", certctl.RoleOperator), request("mine"), idem); err != nil {
		t.Error(err)
	}
	w.consistent()
}

func TestOfTwoSubmittersOneGetsTheNameOrThePlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("web")
	const rivals = 8
	race := func(submit func(i int) error) {
		t.Helper()
		var mu sync.Mutex
		var won int
		var group sync.WaitGroup
		for i := range rivals {
			group.Go(func() {
				err := submit(i)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if certctl.ErrorCode(err) != certctl.Conflict {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if won != 1 {
			t.Errorf("%d won", won)
		}
	}
	race(func(int) error {
		_, err := w.SubmitCertificate(w.ctx, w.admin, request("same"), certctl.Idempotency{})
		return err
	})
	race(func(i int) error {
		r := request(fmt.Sprintf("rival-%d", i), "web")
		r.Bindings[0].Place = "place"
		_, err := w.SubmitCertificate(w.ctx, w.admin, r, certctl.Idempotency{})
		return err
	})
	race(func(i int) error {
		r := request(fmt.Sprintf("bulk-%d", i), "web")
		r.Bindings[0].Place = "bulk"
		results, err := w.SubmitCertificates(w.ctx, w.admin, []certctl.CertificateRequest{r, request(fmt.Sprintf("fellow-%d", i))})
		if err != nil || results[1].Err != nil {
			t.Errorf("the good item failed, too: %v", err)
			return err
		}
		return results[0].Err
	})
	w.consistent()
}

// Submissions that come at once share transactions: one that cannot be met fails
// alone, each says who asked for it, and principals do not mix.
func TestSubmissionsAtOnceAreEachTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.member("", certctl.RoleOperator)
	const each = 40
	var group sync.WaitGroup
	errs := make([]error, 3*each)
	made := make([]certctl.Submitted, 3*each)
	for i := range errs {
		actor, r := w.admin, request(fmt.Sprintf("at-once-%d", i))
		switch i % 3 {
		case 1:
			actor = other
		case 2:
			r.Issuers = []string{"nowhere"}
		}
		actor.RequestID = r.Name
		group.Go(func() { made[i], errs[i] = w.SubmitCertificate(w.ctx, actor, r, certctl.Idempotency{}) })
	}
	group.Wait()
	for i, err := range errs {
		if i%3 == 2 {
			refused(t, err, certctl.Invalid, "nowhere")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		c := made[i].Certificate
		events, err := w.ListEvents(w.ctx, w.admin, certctl.EventFilter{Object: c.ID, Name: certctl.EventCertificateCreated, Limit: 2})
		want := []string{w.admin.Principal.Name, other.Principal.Name}[i%3]
		if err != nil || len(events) != 1 || events[0].RequestID != c.Name || events[0].Actor != want {
			t.Errorf("%s: %v, %v", c.Name, events, err)
		}
	}
	if n := w.count(`select count(*) from certificate where name like 'at-once-%'`); n != 2*each {
		t.Errorf("%d certificates", n)
	}
	w.consistent()
}
