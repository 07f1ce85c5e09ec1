package handlers_test

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// asked has the CA asked about every leaf now, as when the time has come.
func (w *acmeWorld) asked(r *replica) {
	w.t.Helper()
	_, err := w.Pool().Exec(w.ctx, `update due set due_at = now() where kind = 'renewal_info'`)
	w.must(err)
	w.work(r)
}

// requested gives a certificate's open order the request of a new key.
func (w *acmeWorld) requested(c certctl.Certificate) {
	w.t.Helper()
	key, err := certctl.ECDSAP256.Generate()
	w.must(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: c.Names.DNS}, key)
	w.must(err)
	csr, err := certctl.ParseCSR(der)
	w.must(err)
	_, err = w.SubmitCSR(w.ctx, w.admin, c.ID.String(), csr)
	w.must(err)
}

func (w *acmeWorld) explained(c certctl.Certificate) (certctl.HolderExplanation, string) {
	w.t.Helper()
	e, err := w.ExplainCertificate(w.ctx, w.admin, c.ID.String())
	w.must(err)
	return e.Holders[0], strings.Join(e.Sentences(e.Holders[0]), "\n")
}

func TestARenewalIsMovedIntoTheWindowOfItsCA(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{})
	c, _ := w.orderFor("shop", "shop.example.com")
	r := w.worker("a", immortal)
	w.until("issued", always(r), w.issued(c))
	leaf := w.versions(c)[0]
	start, end := leaf.NotBefore.Add(20*certctl.Day), leaf.NotBefore.Add(21*certctl.Day)
	w.pebble.Suggest(t, leaf.Leaf, start, end, "https://ca.example.com/why")
	w.asked(r)
	moved := w.versions(c)[0].RenewAt
	if moved.Before(start) || moved.After(end) {
		t.Fatalf("renewed at %s, the window is %s to %s", moved, start, end)
	}
	w.asked(r)
	if again := w.versions(c)[0].RenewAt; !again.Equal(moved) {
		t.Errorf("the time is drawn again: %s, %s", moved, again)
	}
	if h, say := w.explained(c); h.Decision.Due || !strings.Contains(say, "suggests a renewal between") || !strings.Contains(say, "https://ca.example.com/why") {
		t.Errorf("%+v\n%s", h.Decision, say)
	}
	if n := w.count(`select count(*) from event where name = 'renewal_moved'`); n != 1 {
		t.Errorf("%d events", n)
	}
	// A window that cannot be meant leaves the policy's time.
	policy := w.explainedPolicy(c)
	w.pebble.Suggest(t, leaf.Leaf, end, start, "")
	w.asked(r)
	if at := w.versions(c)[0].RenewAt; !at.Equal(policy) {
		t.Errorf("renewed at %s, by the policy at %s", at, policy)
	}
	if _, say := w.explained(c); !strings.Contains(say, "cannot be meant") {
		t.Errorf("%s", say)
	}
	w.consistent()
}

func (w *acmeWorld) explainedPolicy(c certctl.Certificate) time.Time {
	w.t.Helper()
	h, _ := w.explained(c)
	return h.Advice.PolicyAt
}

// What a CA recalls is replaced at once, whatever holds renewals back; one recall
// has all other leaves of the CA asked about; and each successor names its
// predecessor.
func TestARecallReachesEveryLeafOfItsCA(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{AuthzReuse: 100})
	var all []certctl.Certificate
	for i := range 12 {
		c, _ := w.orderFor(fmt.Sprint("c", i), fmt.Sprintf("c%d.example.com", i))
		all = append(all, c)
	}
	r := w.worker("a", immortal)
	w.until("issued", always(r), w.issued(all...))
	w.asked(r) // nothing is recalled yet
	var ids []string
	var holders []certctl.ID
	for _, c := range all {
		leaf := w.versions(c)[0]
		id, err := certctl.RenewalInfoID(leaf.Leaf)
		w.must(err)
		ids, holders = append(ids, id), append(holders, leaf.Holder)
		w.pebble.Suggest(t, leaf.Leaf, w.now().Add(-2*time.Hour), w.now().Add(-time.Hour), "https://ca.example.com/incident")
	}
	if _, err := w.CreateFreeze(w.ctx, w.admin, certctl.Freeze{Name: "holidays", Hard: true}); err != nil {
		t.Fatal(err)
	}
	if n, err := w.RenewHolders(w.ctx, holders); err != nil || n != 0 {
		t.Fatalf("%d orders before the recall is known, %v", n, err)
	}
	_, err := w.Pool().Exec(w.ctx, `update due set due_at = now() where kind = 'renewal_info' and id = $1`, w.versions(all[0])[0].ID)
	w.must(err)
	w.work(r)
	if n := w.count(`select count(*) from due where kind = 'renewal_info' and due_at <= now()`); n != len(all)-1 {
		t.Errorf("%d others are asked about at once", n)
	}
	w.work(r)
	if n := w.count(`select count(*) from event where name = 'certificate_recalled'`); n != len(all) {
		t.Errorf("%d recalls are announced", n)
	}
	if h, say := w.explained(all[3]); !h.Decision.Due || h.Decision.Reason != certctl.DueRecalled || !strings.Contains(say, "replaced at once") {
		t.Errorf("%+v\n%s", h.Decision, say)
	}
	if n, err := w.RenewHolders(w.ctx, holders); err != nil || n != len(all) {
		t.Fatalf("%d orders, %v", n, err)
	}
	for _, c := range all {
		w.requested(c)
	}
	w.until("replaced", always(r), func() bool { return w.count(`select count(*) from version`) == 2*len(all) })
	replaced := w.pebble.Replaced()
	slices.Sort(ids)
	slices.Sort(replaced)
	if !slices.Equal(ids, replaced) {
		t.Errorf("replaced %v, want %v", replaced, ids)
	}
	w.clean()
}

// A predecessor that the CA does not accept is no reason to have no successor.
func TestAnOrderIsTakenWithoutAPredecessorThatTheCARefuses(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{AuthzReuse: 100})
	c, _ := w.orderFor("shop", "shop.example.com")
	r := w.worker("a", immortal)
	w.until("issued", always(r), w.issued(c))
	for n, problem := range []string{"alreadyReplaced", "serverInternal", "unauthorized"} {
		status := map[string]int{"alreadyReplaced": 409, "serverInternal": 500, "unauthorized": 403}[problem]
		w.pebble.Fail(acmetest.Fault{Path: acmetest.NewOrder, Times: 1, Status: status, Problem: problem})
		_, err := w.RenewCertificate(w.ctx, w.admin, c.ID.String(), certctl.RenewRequest{}, certctl.Idempotency{})
		w.must(err)
		w.requested(c)
		w.until(problem, always(r), func() bool { return w.count(`select count(*) from version`) == n+2 })
	}
	if replaced := w.pebble.Replaced(); len(replaced) != 0 {
		t.Errorf("orders that replace %v were taken", replaced)
	}
	if n := w.count(`select count(*) from attempt where outcome = 'failed'`); n != 0 {
		t.Errorf("%d attempts have failed", n)
	}
	w.clean()
}

func TestACAThatDoesNotAnswerAboutRenewalsIsAskedLater(t *testing.T) {
	t.Parallel()
	w := newACME(t, acmetest.Options{})
	c, _ := w.orderFor("shop", "shop.example.com")
	r := w.worker("a", immortal)
	w.until("issued", always(r), w.issued(c))
	before := w.versions(c)[0].RenewAt
	for _, fault := range []acmetest.Fault{
		{Status: 503, RetryAfter: "7200"}, {Status: 429, RetryAfter: "7200", Problem: "rateLimited"}, {Status: 404, Problem: "malformed"},
		{Rewrite: func([]byte) []byte { return []byte(`{"suggestedWindow": {"start": "tomorrow"`) }},
		{Rewrite: func([]byte) []byte { return []byte(`{}`) }},
	} {
		fault.Path, fault.Times = acmetest.RenewalInfo, 1
		w.pebble.Fail(fault)
		w.asked(r)
		h, say := w.explained(c)
		if again := w.count(`select extract(epoch from due_at - now())::int from due where kind = 'renewal_info'`); fault.RetryAfter != "" && again < 7000 {
			t.Errorf("asked again in %d s, the CA says %s", again, fault.RetryAfter)
		}
		if h.Advice.Failures == 0 || !strings.Contains(say, "did not answer") {
			t.Errorf("%+v: %+v\n%s", fault, h.Advice, say)
		}
	}
	if h, _ := w.explained(c); h.Advice.Failures != 5 {
		t.Errorf("%d failures", h.Advice.Failures)
	}
	if n := w.count(`select count(*) from due where kind = 'renewal_info' and due_at > now()`); n != 1 {
		t.Error("nobody asks again")
	}
	if at := w.versions(c)[0].RenewAt; !at.Equal(before) {
		t.Errorf("moved from %s to %s by no answer", before, at)
	}
	w.asked(r)
	if h, _ := w.explained(c); h.Advice.Failures != 0 || h.Advice.Window.Start.IsZero() {
		t.Errorf("after an answer: %+v", h.Advice)
	}
}
