package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/storetest"
)

// empty is a store on a database that nobody has set up.
func empty(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), storetest.URL(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Many replicas may start at once on an empty database; one key is the admin's.
func TestBootstrapOnce(t *testing.T) {
	t.Parallel()
	s := empty(t)
	if _, _, err := s.Installation(t.Context()); certctl.ErrorCode(err) != certctl.NotFound {
		t.Errorf("an installation before the first start: %v", err)
	}
	var wait sync.WaitGroup
	var firsts atomic.Int64
	keys := []certctl.Digest{{1}, {2}, {3}, {4}}
	for _, key := range keys {
		wait.Go(func() {
			first, err := s.Bootstrap(t.Context(), store.BootstrapRequest{PKIURL: "http://pki.example.com", AdminKey: key, AdminPrefix: "cck_aaaa"})
			if err != nil {
				t.Error(err)
			}
			if first {
				firsts.Add(1)
			}
		})
	}
	wait.Wait()
	valid := 0
	for _, key := range keys {
		if p, err := s.AuthenticateKey(t.Context(), key); err == nil && p.Name == "admin" {
			valid++
		}
	}
	if firsts.Load() != 1 || valid != 1 {
		t.Errorf("%d first starts, %d valid keys", firsts.Load(), valid)
	}
	broken, err := s.CheckIntegrity(t.Context())
	if err != nil || len(broken) != 0 {
		t.Errorf("broken %v, %v", broken, err)
	}
}

func TestLocks(t *testing.T) {
	t.Parallel()
	s := empty(t)
	var inside, most atomic.Int64
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			err := s.LockedOnce(t.Context(), "one", func(context.Context) error {
				most.Store(max(most.Load(), inside.Add(1)))
				defer inside.Add(-1)
				return s.Ping(t.Context()) // which needs a connection of the pool
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if most.Load() != 1 {
		t.Errorf("%d at once", most.Load())
	}
	own := errors.New("mine")
	if err := s.LockedOnce(t.Context(), "one", func(context.Context) error { return own }); !errors.Is(err, own) {
		t.Errorf("error %v", err)
	}
	release, ok, err := s.TryHoldLock(t.Context(), "two")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, again, err := s.TryHoldLock(t.Context(), "two"); again || err != nil {
		t.Errorf("held twice: %v, %v", again, err)
	}
	release()
	release, ok, err = s.TryHoldLock(t.Context(), "two")
	if err != nil || !ok {
		t.Fatal("not free after its release", err)
	}
	release()
}

func TestEventsArePublishedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clientOrder("shop")
	all, err := w.UnpublishedEvents(w.ctx, -time.Second, 1000)
	if err != nil || len(all) < 3 {
		t.Fatalf("%d events, %v", len(all), err)
	}
	if err := w.SetAsideEvent(w.ctx, all[0].ID, "too large"); err != nil {
		t.Fatal(err)
	}
	if err := w.MarkPublished(w.ctx, []certctl.ID{all[1].ID, all[1].ID}); err != nil {
		t.Fatal(err)
	}
	left, err := w.UnpublishedEvents(w.ctx, -time.Second, 1000)
	if err != nil || len(left) != len(all)-2 || left[0].ID != all[2].ID {
		t.Errorf("left %d of %d, %v", len(left), len(all), err)
	}
	refill, err := w.EventsSince(w.ctx, certctl.NoID, 1000)
	if err != nil || len(refill) != len(all) {
		t.Errorf("a lost stream gets %d events of %d, %v", len(refill), len(all), err)
	}
	after, err := w.EventsSince(w.ctx, all[0].ID, 2)
	if err != nil || len(after) != 2 || after[0].ID != all[1].ID {
		t.Errorf("after the first: %+v, %v", after, err)
	}
	made := time.Now().UTC().Truncate(time.Microsecond)
	if previous, err := w.StreamCreated(w.ctx, "S", made); err != nil || !previous.IsZero() {
		t.Errorf("first seen after %s, %v", previous, err)
	}
	if previous, err := w.StreamCreated(w.ctx, "S", made.Add(time.Hour)); err != nil || !previous.Equal(made) {
		t.Errorf("seen before at %s, %v", previous, err)
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, o := w.clientOrder("shop")
	letter := certctl.DeadLetter{ID: certctl.NewID(time.Now()), Verb: certctl.HintIssue, Lane: o.Issuer.String(), IDs: []certctl.ID{o.ID}, Reason: "it panicked"}
	for range 2 {
		if err := w.RecordDeadLetter(w.ctx, letter); err != nil {
			t.Fatal(err)
		}
	}
	if parked := w.orders(c, certctl.OrderReady)[0]; parked.Wait != certctl.WaitParked {
		t.Errorf("order %+v", parked)
	}
	if got := w.begin("w", o.ID); len(got) != 0 {
		t.Errorf("a parked order is asked for: %+v", got)
	}
	page, err := w.ListDeadLetters(w.ctx, w.admin, certctl.PageRequest{})
	if err != nil || len(page.Items) != 1 || page.Items[0].Reason != "it panicked" {
		t.Fatalf("letters %+v, %v", page, err)
	}
	_, err = w.ListDeadLetters(w.ctx, w.member("", certctl.RoleAgentEnroller), certctl.PageRequest{})
	refused(t, err, certctl.Denied)
	w.hinted("")
	if err := w.ReplayDeadLetter(w.ctx, w.admin, letter.ID); err != nil {
		t.Fatal(err)
	}
	if told := w.hinted(certctl.HintIssue); len(told) == 0 || told[0] != o.ID {
		t.Errorf("hinted %v", told)
	}
	if got := w.begin("w", o.ID); len(got) != 1 {
		t.Errorf("after the replay: %+v", got)
	}
	refused(t, w.ReplayDeadLetter(w.ctx, w.admin, letter.ID), certctl.NotFound)
	refused(t, w.DiscardDeadLetter(w.ctx, w.admin, letter.ID), certctl.NotFound)
	w.consistent()
}

func TestReaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reader, err := w.CreateReader(w.ctx, w.admin, certctl.Reader{Name: "siem", Filters: []string{"certificate"}, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]certctl.Reader{
		"no filter like it": {Name: "x", Filters: []string{"everything"}, ExpiresAt: time.Now().Add(time.Hour)},
		"over already":      {Name: "x", ExpiresAt: time.Now().Add(-time.Hour)},
	} {
		if _, err := w.CreateReader(w.ctx, w.admin, bad); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	narrow, err := w.CreateReader(w.ctx, w.admin, certctl.Reader{Name: "narrow", ExpiresAt: time.Now().Add(time.Hour),
		Filters: []string{"rollout.>", "certificate.certificate_issued", "certificate.certificate_issued"}})
	if err != nil || !slices.Equal(narrow.Filters, []string{"certificate.certificate_issued", "rollout"}) {
		t.Fatalf("%+v, %v", narrow, err)
	}
	if err := w.RevokeReader(w.ctx, w.admin, "narrow"); err != nil {
		t.Fatal(err)
	}
	refused(t, w.RevokeReader(w.ctx, w.admin, "narrow"), certctl.NotFound) // by a name that is free again
	if err := w.RevokeReader(w.ctx, w.admin, narrow.ID.String()); err != nil {
		t.Error(err)
	}
	_, err = w.CreateReader(w.ctx, w.member("", certctl.RoleViewer), certctl.Reader{Name: "x", ExpiresAt: time.Now().Add(time.Hour)})
	refused(t, err, certctl.Denied)
	w.hinted("")
	if err := w.RevokeReader(w.ctx, w.admin, reader.ID.String()); err != nil {
		t.Fatal(err)
	}
	if told := w.hinted(certctl.HintSystem); len(told) != 1 {
		t.Errorf("the keeper of accounts was told %v", told)
	}
	live, err := w.LiveReaders(w.ctx)
	if err != nil || len(live) != 2 || live[0].RevokedAt.IsZero() || live[1].RevokedAt.IsZero() {
		t.Errorf("readers that the bus must know: %+v, %v", live, err)
	}
}
