package store_test

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// lease is how long attempts in these tests belong to their worker.
const lease = time.Minute

// start is what a worker is about to ask for an order.
func start(o certctl.Order) certctl.AttemptStart {
	return certctl.AttemptStart{Order: o.ID, Revision: o.Revision, Issuer: o.Issuer, StartedAt: time.Now(), Serial: "0a1b"}
}

// begin begins attempts for all ready orders among ids.
func (w *world) begin(worker string, ids ...certctl.ID) []certctl.Attempt {
	w.t.Helper()
	jobs, err := w.ReadyOrders(w.ctx, ids)
	if err != nil {
		w.t.Fatal(err)
	}
	starts := make([]certctl.AttemptStart, len(jobs))
	for i, job := range jobs {
		starts[i] = start(job.Order)
	}
	begun, err := w.BeginIssue(w.ctx, worker, lease, starts)
	if err != nil {
		w.t.Fatal(err)
	}
	return begun
}

// success is how an attempt ends that got a leaf for the names.
func (w *world) success(a certctl.Attempt, names ...string) certctl.AttemptEnd {
	return certctl.AttemptEnd{Order: a.Order, N: a.N, Worker: a.Worker, Leaf: leafFor(w.t, names...), Chain: certctl.Chain{leafFor(w.t, "ca")},
		RenewAt: time.Now().Add(40 * certctl.Day).UTC().Truncate(time.Second)}
}

func (w *world) finish(ends ...certctl.AttemptEnd) []certctl.FinishResult {
	w.t.Helper()
	results, err := w.FinishIssue(w.ctx, ends)
	if err != nil {
		w.t.Fatal(err)
	}
	return results
}

// clientOrder submits a certificate with a CSR and returns it with its order.
func (w *world) clientOrder(name string) (certctl.Certificate, certctl.Order) {
	w.t.Helper()
	c := w.submit(certctl.CertificateRequest{Name: name, Issuers: []string{"local"}, CSR: csrFor(w.t, name+".example.com")})
	return c, w.orders(c, certctl.OrderReady)[0]
}

func TestAnOrderBecomesAVersionAndDeployments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	o := w.orders(c, certctl.OrderAwaitingCSR)[0]
	if jobs, err := w.ReadyOrders(w.ctx, []certctl.ID{o.ID}); err != nil || len(jobs) != 0 {
		t.Fatalf("an order without a request is ready: %v, %v", jobs, err)
	}
	w.exec(`update cert_order set state = 'ready', wait = '', csr = $2, csr_spki = $3 where id = $1`, o.ID, []byte{1}, bytes.Repeat([]byte{2}, 32))
	w.hinted("")
	begun := w.begin("w1", o.ID)
	if len(begun) != 1 || begun[0].N != 1 || begun[0].Worker != "w1" {
		t.Fatalf("begun %+v", begun)
	}
	if got := w.orders(c, certctl.OrderProcessing); len(got) != 1 || !got[0].DueAt.After(time.Now()) {
		t.Errorf("orders %+v", got)
	}
	result := w.finish(w.success(begun[0], "shop.example.com"))[0]
	if result.Stale || result.Version.IsZero() {
		t.Fatalf("result %+v", result)
	}
	issued := w.orders(c, certctl.OrderIssued)
	if len(issued) != 1 || issued[0].Version != result.Version || issued[0].ClosedAt.IsZero() {
		t.Errorf("orders %+v", issued)
	}
	deployments := w.deployments(c)
	if len(deployments) != 1 || deployments[0].State != certctl.DeploymentPending || deployments[0].Version != result.Version {
		t.Errorf("deployments %+v", deployments)
	}
	if rung := w.hinted(certctl.HintBell); len(rung) != 1 || rung[0] != deployments[0].Agent {
		t.Errorf("rung %v", rung)
	}
	holder := w.holders(c)[0]
	if holder.Version.ID != result.Version || !holder.Holder.RenewAt.Equal(holder.Version.RenewAt) || len(holder.Version.Chain) != 1 {
		t.Errorf("holder %+v", holder)
	}
	if got := w.get(c.ID); got.Status != certctl.StatusDeploying || !got.NotAfter.Equal(holder.Version.NotAfter) {
		t.Errorf("certificate %+v", got)
	}
	w.consistent()
}

func TestOfManyWorkersOneAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, o := w.clientOrder("shop")
	var wait sync.WaitGroup
	var mu sync.Mutex
	var begun []certctl.Attempt
	for _, worker := range []string{"a", "b", "c", "d"} {
		wait.Go(func() {
			got, err := w.BeginIssue(w.ctx, worker, lease, []certctl.AttemptStart{start(o)})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			begun = append(begun, got...)
		})
	}
	wait.Wait()
	if len(begun) != 1 {
		t.Errorf("begun %+v", begun)
	}
	w.consistent()
}

func TestALapsedLeaseIsTakenOverAndTheLateLeafIsAnOrphan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, o := w.clientOrder("shop")
	first := w.begin("w1", o.ID)[0]
	if err := w.SaveAttemptState(w.ctx, o.ID, 1, "w1", "https://ca/order/7", []byte("state")); err != nil {
		t.Fatal(err)
	}
	if got := w.begin("w2", o.ID); len(got) != 0 {
		t.Fatalf("begun under another one's lease: %+v", got)
	}
	w.exec(`update attempt set lease_until = now() - interval '1 second' where order_id = $1`, o.ID)
	second := w.begin("w2", o.ID)
	if len(second) != 1 || second[0].N != 2 || second[0].ExternalURL != "https://ca/order/7" || string(second[0].State) != "state" {
		t.Fatalf("taken over %+v", second)
	}
	refused(t, w.ExtendLease(w.ctx, o.ID, 1, "w1", lease), certctl.Conflict)
	refused(t, w.SaveAttemptState(w.ctx, o.ID, 1, "w1", "x", nil), certctl.Conflict)
	if err := w.ExtendLease(w.ctx, o.ID, 2, "w2", lease); err != nil {
		t.Error(err)
	}
	late := w.finish(w.success(first, "shop.example.com"))[0]
	if !late.Stale {
		t.Errorf("late %+v", late)
	}
	if v, err := w.GetVersion(w.ctx, w.admin, late.Version); err != nil || v.Origin != certctl.VersionOrphan {
		t.Errorf("late version %+v, %v", v, err)
	}
	end := w.success(second[0], "shop.example.com")
	now := w.finish(end)[0]
	if now.Stale || w.holders(c)[0].Version.ID != now.Version {
		t.Errorf("result %+v", now)
	}
	if again := w.finish(end)[0]; !again.Stale {
		t.Errorf("finished twice: %+v", again)
	}
	if n := w.count(`select count(*) from version where origin = 'issued'`); n != 1 {
		t.Errorf("%d versions", n)
	}
	w.consistent()
}

func TestAnOrphanWithABlockedKeyIsRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, o := w.clientOrder("shop")
	attempt := w.begin("w1", o.ID)[0]
	if _, err := w.CancelOrder(w.ctx, w.admin, o.ID); err != nil {
		t.Fatal(err)
	}
	end := w.success(attempt, "shop.example.com")
	leaf, err := certctl.ParseLeaf(end.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	w.exec(`insert into blocked_key (spki, reason) values ($1, 'keyCompromise')`, leaf.SPKI)
	result := w.finish(end)[0]
	if v, err := w.GetVersion(w.ctx, w.admin, result.Version); err != nil || v.RevokedAt.IsZero() {
		t.Errorf("version %+v, %v", v, err)
	}
	w.consistent()
}

func TestFailuresWaitOrEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, o := w.clientOrder("shop")
	attempt := w.begin("w1", o.ID)[0]
	failure := certctl.AttemptEnd{Order: o.ID, N: attempt.N, Worker: "w1", RetryAt: time.Now().Add(time.Hour),
		Err: &certctl.IssueError{Kind: certctl.FailRetryable, Code: "ca_down", Message: "the CA does not answer"}}
	if got := w.finish(failure); got[0].Stale {
		t.Errorf("result %+v", got)
	}
	waiting := w.orders(c, certctl.OrderReady)[0]
	if waiting.Wait != certctl.WaitBackoff || waiting.ErrorCode != "ca_down" || waiting.DueAt.Before(time.Now().Add(50*time.Minute)) {
		t.Errorf("order %+v", waiting)
	}
	if got := w.get(c.ID); got.StatusReason != "the CA does not answer" {
		t.Errorf("certificate %+v", got)
	}
	if got := w.begin("w2", o.ID); len(got) != 0 {
		t.Errorf("asked during the back-off: %+v", got)
	}
	w.exec(`update due set due_at = now() where id = $1`, o.ID)
	hints, err := w.ClaimDue(w.ctx, 100, time.Minute)
	if err != nil || len(hints) != 1 || hints[0].Verb != certctl.HintIssue || !slices.Equal(hints[0].IDs, []certctl.ID{o.ID}) {
		t.Fatalf("hints %+v, %v", hints, err)
	}
	second := w.begin("w2", o.ID)[0]
	w.finish(certctl.AttemptEnd{Order: o.ID, N: second.N, Worker: "w2", Refuse: true,
		Err: &certctl.IssueError{Kind: certctl.FailRefused, Code: "policy", Message: "never"}})
	if got := w.get(c.ID); got.Status != certctl.StatusRefused || got.StatusReason != "never" {
		t.Errorf("certificate %+v", got)
	}
	attempts, err := w.ListAttempts(w.ctx, w.admin, o.ID)
	if err != nil || len(attempts) != 2 || attempts[0].Outcome != certctl.AttemptFailed || attempts[1].ErrorCode != "policy" {
		t.Errorf("attempts %+v, %v", attempts, err)
	}
	w.consistent()
}

func TestAnOrderThatKillsItsWorkersIsParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, o := w.clientOrder("shop")
	for n := range certctl.MaxLostLeases {
		if got := w.begin("w", o.ID); len(got) != 1 {
			t.Fatalf("attempt %d: %+v", n+1, got)
		}
		w.exec(`update attempt set lease_until = now() - interval '1 second' where order_id = $1`, o.ID)
	}
	if got := w.begin("w", o.ID); len(got) != 0 {
		t.Fatalf("asked once more: %+v", got)
	}
	parked := w.orders(c, certctl.OrderReady)
	if len(parked) != 1 || parked[0].Wait != certctl.WaitParked {
		t.Errorf("orders %+v", parked)
	}
	if n := w.count(`select count(*) from dead_letter where ids = array[$1::uuid]`, o.ID); n != 1 {
		t.Errorf("%d dead letters", n)
	}
	w.consistent()
}

func TestSlotsOfAnIssuerAreSharedByAllReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`update issuer set concurrency = 1`)
	c, a := w.clientOrder("a")
	_, b := w.clientOrder("b")
	begun := w.begin("w1", a.ID, b.ID)
	if len(begun) != 1 {
		t.Fatalf("begun %+v", begun)
	}
	if n := w.count(`select count(*) from cert_order where wait = 'slot' and state = 'ready'`); n != 1 {
		t.Errorf("%d orders wait for a slot", n)
	}
	w.finish(w.success(begun[0], "x.example.com"))
	w.exec(`update due set due_at = now() where kind = 'order'`)
	if _, err := w.ClaimDue(w.ctx, 100, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := w.begin("w2", a.ID, b.ID); len(got) != 1 || got[0].Order == begun[0].Order {
		t.Errorf("begun %+v", got)
	}
	_ = c
	w.consistent()
}

func TestAPausedIssuerIsNotAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, o := w.clientOrder("shop")
	w.exec(`update issuer set paused = true`)
	if got := w.begin("w", o.ID); len(got) != 0 {
		t.Errorf("begun %+v", got)
	}
	if got, err := w.BeginIssue(w.ctx, "w", lease, []certctl.AttemptStart{start(o)}); err != nil || len(got) != 0 {
		t.Errorf("begun %+v, %v", got, err)
	}
}

func TestAChangeWhileAtTheCAIsOrderedNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, o := w.clientOrder("shop")
	begun := w.begin("w", o.ID)[0]
	w.exec(`update certificate set revision = revision + 1 where id = $1`, c.ID)
	w.hinted("")
	w.finish(w.success(begun, "shop.example.com"))
	if renew := w.hinted(certctl.HintRenew); len(renew) != 1 || renew[0] != o.Holder {
		t.Errorf("hinted %v", renew)
	}
	if n, err := w.RenewHolders(w.ctx, []certctl.ID{o.Holder}); err != nil || n != 1 {
		t.Errorf("%d orders, %v", n, err)
	}
	w.consistent()
}

func TestClaimsAreSharedAndComeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		w.clientOrder(name)
	}
	w.exec(`update due set due_at = now() - interval '1 second'`)
	var wait sync.WaitGroup
	var mu sync.Mutex
	seen := map[certctl.ID]int{}
	for range 4 {
		wait.Go(func() {
			hints, err := w.ClaimDue(context.WithoutCancel(w.ctx), 2, time.Minute)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, hint := range hints {
				for _, id := range hint.IDs {
					seen[id]++
				}
			}
		})
	}
	wait.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was claimed %d times", id, n)
		}
	}
	for len(seen) < 4 {
		hints, err := w.ClaimDue(w.ctx, 2, time.Minute)
		if err != nil || len(hints) == 0 {
			t.Fatalf("hints %v, %v; seen %d", hints, err, len(seen))
		}
		for _, id := range hints[0].IDs {
			seen[id]++
		}
	}
	if hints, err := w.ClaimDue(w.ctx, 100, time.Minute); err != nil || len(hints) != 0 {
		t.Errorf("claimed again before their time: %v, %v", hints, err)
	}
}

// Whoever changes an order locks it first and sets its due row last; the scheduler
// comes from the other side, and must not wait for him.
func TestAClaimWaitsForNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, o := w.clientOrder("shop")
	_, free := w.clientOrder("free")
	w.exec(`update cert_order set wait = 'backoff'`)
	w.exec(`update due set due_at = now() - interval '1 second' where kind = 'order'`)
	other, err := w.Pool().Begin(w.ctx)
	must(err)
	defer func() { _ = other.Rollback(context.WithoutCancel(w.ctx)) }()
	_, err = other.Exec(w.ctx, `select from cert_order where id = $1 for no key update`, o.ID)
	must(err)
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	if _, err := w.ClaimDue(ctx, 10, time.Minute); err != nil {
		t.Fatalf("the claim waits: %v", err)
	}
	_, err = other.Exec(w.ctx, `update due set due_at = now() where kind = 'order' and id = $1`, o.ID)
	must(err)
	must(other.Commit(w.ctx))
	if n := w.count(`select count(*) from cert_order where wait = 'backoff' and id = $1`, o.ID); n != 1 {
		t.Error("the wait of an order was ended under the hands of another")
	}
	if n := w.count(`select count(*) from cert_order where wait = '' and id = $1`, free.ID); n != 1 {
		t.Error("the wait of the other order goes on")
	}
	if _, err := w.ClaimDue(w.ctx, 10, time.Minute); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from cert_order where wait = ''`); n != 2 {
		t.Error("claimed again, it still waits")
	}
}

func TestWhatWaitsForSomebodyIsAnnouncedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.submit(certctl.CertificateRequest{Name: "shop", Issuers: []string{"local"}, KeyMode: certctl.KeyModeCSR,
		Names: certctl.Names{DNS: []string{"shop.example.com"}}})
	o := w.orders(c, certctl.OrderAwaitingCSR)[0]
	w.exec(`update due set due_at = now() where id = $1`, o.ID)
	hints, err := w.ClaimDue(w.ctx, 10, time.Minute)
	if err != nil || len(hints) != 1 || hints[0].Verb != certctl.HintExpire {
		t.Fatalf("hints %+v, %v", hints, err)
	}
	before := w.count(`select count(*) from event where name = 'order_awaiting_csr'`)
	if err := w.RemindOrders(w.ctx, hints[0].IDs); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from event where name = 'order_awaiting_csr'`); n != before+1 {
		t.Errorf("%d events, before %d", n, before)
	}
	if got := w.orders(c, certctl.OrderAwaitingCSR)[0]; got.DueAt.Before(time.Now().Add(23 * time.Hour)) {
		t.Errorf("due again at %s", got.DueAt)
	}
	w.consistent()
}
