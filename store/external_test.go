package store_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// account registers an account of the issuer at a CA.
func (w *world) account() certctl.ExternalAccount {
	w.t.Helper()
	a := certctl.ExternalAccount{ID: certctl.NewID(time.Now()), Issuer: w.issuer.ID, Directory: "https://ca.example.com/directory", SealedKey: []byte("sealed")}
	if err := w.AddExternalAccount(w.ctx, a); err != nil {
		w.t.Fatal(err)
	}
	a.URL, a.Contact = "https://ca.example.com/account/1", []string{"mailto:ops@example.com"}
	if err := w.RegisterExternalAccount(w.ctx, a); err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) holds(a certctl.ExternalAccount, o certctl.Order, names string) bool {
	w.t.Helper()
	held, err := w.HoldExternal(w.ctx, certctl.ExternalHold{Account: a.ID, Issuer: w.issuer.ID, Order: o.ID, Names: certctl.DigestOf([]byte(names))})
	if err != nil {
		w.t.Fatal(err)
	}
	return held
}

func TestAnAccountIsStoredBeforeItIsRegistered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.ExternalAccount(w.ctx, w.issuer.ID, "https://ca.example.com/directory"); certctl.ErrorCode(err) != certctl.NotFound {
		t.Fatalf("an account out of nothing: %v", err)
	}
	made := w.account()
	read, err := w.ExternalAccount(w.ctx, w.issuer.ID, made.Directory)
	if err != nil || read.ID != made.ID || read.URL != made.URL || string(read.SealedKey) != "sealed" || len(read.Contact) != 1 {
		t.Errorf("read %+v, %v", read, err)
	}
	again := made
	again.ID = certctl.NewID(time.Now())
	if err := w.AddExternalAccount(w.ctx, again); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("a second account at one server: %v", err)
	}
	if n := w.count(`select count(*) from event where name = 'issuer_account_registered'`); n != 1 {
		t.Errorf("%d events", n)
	}
	w.consistent()
}

// Of many orders for the same names, one asks the CA at a time.
func TestOneOrderHoldsASetOfNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account()
	var orders []certctl.Order
	for _, name := range []string{"one", "two", "three", "four"} {
		_, o := w.clientOrder(name)
		if w.holds(a, o, "names") {
			t.Fatal("an order that nobody works on holds names")
		}
		w.begin("w", o.ID)
		orders = append(orders, o)
	}
	var held atomic.Int32
	var wait sync.WaitGroup
	for _, o := range orders {
		wait.Go(func() {
			got, err := w.HoldExternal(w.ctx, certctl.ExternalHold{Account: a.ID, Issuer: w.issuer.ID, Order: o.ID, Names: certctl.DigestOf([]byte("names"))})
			if err != nil {
				t.Error(err)
			}
			if got {
				held.Add(1)
			}
		})
	}
	wait.Wait()
	if held.Load() != 1 {
		t.Fatalf("%d orders hold the same names", held.Load())
	}
	w.consistent()
}

// Tokens are answered while their order lives, and by nobody else's.
func TestChallengeTokensEndWithTheirOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account()
	_, o := w.clientOrder("shop")
	_, other := w.clientOrder("other")
	one, two := w.begin("w", o.ID)[0], w.begin("w", other.ID)[0]
	tokens := []certctl.ChallengeToken{{Token: "t1", Answer: "t1.print"}}
	if err := w.PutChallengeTokens(w.ctx, o.ID, tokens); certctl.ErrorCode(err) != certctl.Conflict {
		t.Fatalf("an order that holds nothing proves something: %v", err)
	}
	if !w.holds(a, o, "shop") || !w.holds(a, other, "other") {
		t.Fatal("names are not held")
	}
	for range 2 {
		if err := w.PutChallengeTokens(w.ctx, o.ID, tokens); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.PutChallengeTokens(w.ctx, other.ID, tokens); certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("another order took the token: %v", err)
	}
	if answer, err := w.ChallengeAnswer(w.ctx, "t1"); err != nil || answer != "t1.print" {
		t.Errorf("answer %q, %v", answer, err)
	}
	if _, err := w.ChallengeAnswer(w.ctx, "t2"); certctl.ErrorCode(err) != certctl.NotFound {
		t.Errorf("a token that is not ours: %v", err)
	}
	w.finish(w.success(one, "shop.example.com"))
	if _, err := w.ChallengeAnswer(w.ctx, "t1"); certctl.ErrorCode(err) != certctl.NotFound {
		t.Errorf("answered after the order: %v", err)
	}
	w.finish(w.success(two, "other.example.com"))
	if n := w.count(`select count(*) from external_order`); n != 0 {
		t.Errorf("%d orders are under way", n)
	}
	w.consistent()
}

// What is cancelled here is ended there, and a leaf of it is revoked.
func TestAnAbandonedOrderIsEndedAtTheCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account()
	c, o := w.clientOrder("shop")
	attempt := w.begin("w", o.ID)[0]
	w.holds(a, o, "shop")
	if err := w.SaveAttemptState(w.ctx, o.ID, attempt.N, "w", "https://ca/order/1", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	w.hinted("")
	if _, err := w.CancelOrder(w.ctx, w.admin, o.ID); err != nil {
		t.Fatal(err)
	}
	w.consistent()
	hinted := w.hinted(certctl.HintAbandon)
	if len(hinted) != 1 {
		t.Fatalf("hinted %v", hinted)
	}
	jobs, err := w.AbandonedOrders(w.ctx, hinted)
	if err != nil || len(jobs) != 1 || jobs[0].Attempt.ExternalURL != "https://ca/order/1" || jobs[0].Order.ID != o.ID || jobs[0].Issuer.ID != w.issuer.ID {
		t.Fatalf("jobs %+v, %v", jobs, err)
	}
	_, next := w.clientOrder("next")
	w.begin("w", next.ID)
	if w.holds(a, next, "shop") {
		t.Fatal("the names are asked for before the former order has ended")
	}
	later := certctl.AbandonEnd{ID: jobs[0].ID, Order: o.ID, N: 1, Err: errors.New("not yet"), RetryAt: time.Now().Add(time.Hour)}
	if err := w.FinishAbandon(w.ctx, later); err != nil {
		t.Fatal(err)
	}
	w.consistent()
	end := certctl.AbandonEnd{ID: jobs[0].ID, Order: o.ID, N: 1, Leaf: leafFor(t, "shop.example.com"), Chain: certctl.Chain{leafFor(t, "ca")}}
	if err := w.FinishAbandon(w.ctx, end); err != nil {
		t.Fatal(err)
	}
	if err := w.FinishAbandon(w.ctx, end); err != nil {
		t.Errorf("to end it twice: %v", err)
	}
	if n := w.count(`select count(*) from version v join revocation r on r.version_id = v.id
		where v.certificate_id = $1 and v.origin = 'orphan' and v.revoked_at is not null and r.state = 'requested'`, c.ID); n != 1 {
		t.Error("the leaf was not kept and revoked")
	}
	if !w.holds(a, next, "shop") {
		t.Error("the names are held by what has ended")
	}
	w.consistent()
}

func TestEndingAnOrderAtACAIsGivenUpInTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account()
	_, o := w.clientOrder("shop")
	attempt := w.begin("w", o.ID)[0]
	w.holds(a, o, "shop")
	end := outage(attempt)
	w.hinted("")
	w.finish(end)
	hinted := w.hinted(certctl.HintAbandon)
	if len(hinted) != 1 {
		t.Fatal("a failed attempt leaves its order at the CA")
	}
	for range certctl.MaxAbandonTries {
		later := certctl.AbandonEnd{ID: hinted[0], Order: o.ID, N: attempt.N, Err: errors.New("unreachable"), RetryAt: time.Now()}
		if err := w.FinishAbandon(w.ctx, later); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.count(`select count(*) from external_order`) + w.count(`select count(*) from due where kind = 'external_order'`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	w.consistent()
}
