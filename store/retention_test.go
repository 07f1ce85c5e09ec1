package store_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// sweepKind removes everything of a kind that had served before a moment.
func (w *world) sweepKind(kind certctl.RetentionKind, before time.Time) int {
	w.t.Helper()
	rows := 0
	for swept := (certctl.Swept{More: true}); swept.More; {
		var err error
		if swept, err = w.SweepOnce(w.ctx, kind, before, swept.Next, 2); err != nil {
			w.t.Fatal(err)
		}
		rows += swept.Rows
	}
	return rows
}

func (w *world) moment() time.Time {
	w.t.Helper()
	now, err := w.Now(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return now
}

// broken returns the broken promises.
func (w *world) broken() []string {
	w.t.Helper()
	found, err := w.CheckIntegrity(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// renewedAgo issues a certificate once more and returns the order.
func (w *world) renewedAgo(c certctl.Certificate) certctl.Order {
	w.t.Helper()
	orders, err := w.RenewCertificate(w.ctx, w.admin, c.ID.String(), certctl.RenewRequest{}, certctl.Idempotency{})
	if err != nil || len(orders) != 1 {
		w.t.Fatalf("orders %v, %v", orders, err)
	}
	w.exec(`update cert_order set csr = $2, csr_spki = $3 where id = $1`, orders[0].ID, csrFor(w.t, orders[0].Names.DNS...).DER, []byte("key"))
	w.issue(orders[0])
	return orders[0]
}

func TestFinishedOrdersAreSweptAndVersionsStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	first := w.orders(c, "")[0]
	w.exec(`update cert_order set csr = $2, csr_spki = $3 where id = $1`, first.ID, csrFor(t, "shop.example.com").DER, []byte("key"))
	w.issue(first)
	w.renewedAgo(c)
	between := w.moment()
	third := w.renewedAgo(c)
	fourth, err := w.RenewCertificate(w.ctx, w.admin, "shop", certctl.RenewRequest{}, certctl.Idempotency{})
	if err != nil {
		t.Fatal(err)
	}

	if n := w.sweepKind(certctl.RetainOrders, between.Add(-certctl.Day)); n != 0 {
		t.Errorf("%d orders swept that are not a day old", n)
	}
	if n := w.sweepKind(certctl.RetainOrders, between); n != 2 {
		t.Errorf("%d orders swept, want the first two", n)
	}
	left := w.orders(c, "")
	if len(left) != 2 || left[0].ID != third.ID || left[1].ID != fourth[0].ID {
		t.Errorf("left are %+v", left)
	}
	if n := w.count(`select count(*) from attempt`); n != 1 {
		t.Errorf("%d attempts left, want that of the third order", n)
	}
	if n := w.count(`select count(*) from version where order_id is not null`); n != 3 {
		t.Errorf("%d versions know their order, want 3", n)
	}
	w.consistent()
	if n := w.sweepKind(certctl.RetainOrders, w.moment()); n != 0 {
		t.Errorf("%d orders swept of the current leaf and of open work", n)
	}

	w.exec(`update version set order_id = gen_random_uuid() where id = (select version_id from cert_order where id = $1)`, third.ID)
	if found := w.broken(); !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, "versions that no order asked for") }) {
		t.Errorf("a version without its order after the horizon is not found: %v", found)
	}
}

func TestSupersededDeploymentsAreSwept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.target("one")
	c := w.submit(request("shop", "one"))
	first := w.orders(c, "")[0]
	w.exec(`update cert_order set csr = $2, csr_spki = $3 where id = $1`, first.ID, csrFor(t, "shop.example.com").DER, []byte("key"))
	w.issue(first)
	w.renewedAgo(c)
	served := w.deployments(c)[0]
	w.renewedAgo(c)
	// The newest has failed: what is served is the one before.
	w.exec(`update deployment set state = 'failed' where id = $1`, w.deployments(c)[0].ID)
	w.exec(`insert into due (kind, id, verb, lane, urgency, due_at) values ('deployment', $1, 'bell', '-', 0, now())`, w.deployments(c)[0].ID)
	if n := w.sweepKind(certctl.RetainDeployments, w.moment()); n != 1 {
		t.Errorf("%d deployments swept, want the first", n)
	}
	if left := w.deployments(c); len(left) != 2 || left[1].ID != served.ID {
		t.Errorf("left are %+v", left)
	}
	w.consistent()
}

// pastEvent writes an event of long ago, which has been published.
func (w *world) pastEvent(object certctl.ID, sequence int64, at time.Time) {
	w.t.Helper()
	w.exec(`
		with e as (insert into event (id, team_id, aggregate, object_id, sequence, name, actor, outcome, body, sha256)
			select $1, id, 'system', $2, $3, 'test', 'test', 'success', '{}', sha256('{}') from team where name = 'default')
		insert into event_head (object_id, sequence) values ($2, $3) on conflict (object_id) do update set sequence = excluded.sequence`,
		certctl.NewID(at), object, sequence)
}

func TestOldMonthsOfEventsAreDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`insert into installation (id) values (gen_random_uuid())`)
	march := time.Date(2024, 3, 10, 12, 0, 0, 0, time.UTC)
	if err := w.MakeEventPartitions(w.ctx, march); err != nil { // March, April, May
		t.Fatal(err)
	}
	object, stray := certctl.NewID(march), certctl.NewID(march.Add(time.Second))
	for n, at := range []time.Time{march.AddDate(0, -2, 0), march, march.Add(time.Hour), march.AddDate(0, 1, 0), march.AddDate(0, 1, 1)} {
		w.pastEvent(object, int64(n+1), at)
	}
	w.pastEvent(stray, 1, march.AddDate(0, -1, 0))
	w.consistentButPublished()

	w.exec(`insert into event_out (id) select id from event where object_id = $1 and sequence = 3`, object)
	may := time.Date(2024, 4, 15, 0, 0, 0, 0, time.UTC)
	if n, err := w.DropEvents(w.ctx, may); err != nil || n != 0 {
		t.Fatalf("%d months dropped, %v, though one event is not published", n, err)
	}
	w.exec(`delete from event_out where id in (select id from event where object_id = $1)`, object)

	dropped := make(chan int, 4) // as many replicas
	for range cap(dropped) {
		go func() {
			n, err := w.DropEvents(w.ctx, may)
			if err != nil && certctl.ErrorCode(err) != certctl.Unavailable {
				t.Error(err)
			}
			dropped <- n
		}()
	}
	total := 0
	for range cap(dropped) {
		total += <-dropped
	}
	if _, err := w.DropEvents(w.ctx, may); err != nil {
		t.Fatal(err)
	}
	if total != 1 || w.count(`select count(*) from event where object_id = $1`, object) != 2 || w.count(`select count(*) from event where object_id = $1`, stray) != 0 {
		t.Errorf("%d months dropped", total)
	}
	if n := w.count(`select count(*) from event where name = 'events_dropped'`); n < 1 {
		t.Error("nothing says that events were dropped")
	}
	w.consistentButPublished()
	w.exec(`delete from event_202404 where object_id = $1 and sequence = 4`, object)
	if found := w.broken(); !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, "gaps in the history") }) {
		t.Errorf("a gap after the horizon is not found: %v", found)
	}
}

// consistentButPublished is consistent for events that are published.
func (w *world) consistentButPublished() {
	w.t.Helper()
	for _, line := range w.broken() {
		w.t.Error(line)
	}
}

func TestANewMonthFailsNoEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	far := time.Date(2031, 12, 31, 23, 59, 59, 0, time.UTC)
	object := certctl.NewID(far)
	w.pastEvent(object, 1, far)                  // no month was made for it
	w.pastEvent(object, 2, far.Add(time.Second)) // nor for this one
	if n := w.count(`select count(*) from event_default`); n != 2 {
		t.Fatalf("%d events in the default partition", n)
	}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if err := w.MakeEventPartitions(w.ctx, far); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if w.count(`select count(*) from event_default`) != 0 || w.count(`select count(*) from event_203112`) != 1 || w.count(`select count(*) from event_203201`) != 1 {
		t.Error("the events did not move into their months")
	}
	if n := w.count(`select count(*) from pg_inherits where inhparent = 'event'::regclass and inhrelid::regclass::text in ('event_203112', 'event_203201', 'event_203202')`); n != 3 {
		t.Errorf("%d of three months were made", n)
	}
	w.consistentButPublished()
}

func TestSmallThingsAreSwept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	agent := w.agent("web1")
	w.exec(`insert into dead_letter (id, verb, lane, ids, reason, replayed_at, discarded_at) values
		(gen_random_uuid(), 'issue', '-', '{}', '', now() - interval '9 days', null),
		(gen_random_uuid(), 'issue', '-', '{}', '', null, now() - interval '9 days'),
		(gen_random_uuid(), 'issue', '-', '{}', '', null, now()), (gen_random_uuid(), 'issue', '-', '{}', '', null, null)`)
	w.exec(`insert into idempotency (principal_id, key, request_hash, object_id, created_at)
		select gen_random_uuid(), n::text, '', gen_random_uuid(), now() - n * interval '5 days' from generate_series(1, 3) n`)
	w.exec(`insert into agent_nonce (nonce, agent_id, expires_at) select n::text::bytea, $1, now() - n * interval '5 days' from generate_series(0, 3) n`, agent)
	for n, expires := range []string{"-9 days", "9 days", "9 days", "9 days", "9 days"} {
		w.exec(`insert into join_token (id, team_id, prefix, hash, uses_left, expires_at, approve, created_at, revoked_at)
			select gen_random_uuid(), id, $1::text, $1::text::bytea, case when $1 in ('1', '2') then 0 else 1 end, now() + $2::interval, true, now() - interval '10 days',
				case when $1 = '3' then now() - interval '9 days' end from team where name = 'default'`, string(rune('0'+n)), expires)
	}
	// A machine that has just used the last of this one may ask again.
	w.exec(`insert into join_use (token_id, keys_hash, agent_id) select id, '', $1 from join_token where prefix = '2'`, agent)

	before := w.moment().Add(-7 * certctl.Day)
	for kind, want := range map[certctl.RetentionKind]int{
		certctl.RetainDeadLetters: 2, certctl.RetainIdempotency: 2, certctl.RetainNonces: 2, certctl.RetainJoinTokens: 3,
	} {
		if n := w.sweepKind(kind, before); n != want {
			t.Errorf("%d %s swept, want %d", n, kind, want)
		}
		if n := w.sweepKind(kind, before); n != 0 {
			t.Errorf("%d %s swept the second time", n, kind)
		}
	}
	if n := w.count(`select count(*) from join_token where prefix in ('2', '4')`); n != 2 {
		t.Errorf("%d of two tokens are left that are still of use", n)
	}
}

func TestTwoSweepersShareTheWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`insert into idempotency (principal_id, key, request_hash, object_id, created_at)
		select gen_random_uuid(), n::text, '', gen_random_uuid(), now() - interval '9 days' from generate_series(1, 100) n`)
	before := w.moment().Add(-certctl.Day)
	swept := make(chan int, 4)
	for range cap(swept) {
		go func() { swept <- w.sweepKind(certctl.RetainIdempotency, before) }()
	}
	total := 0
	for range cap(swept) {
		total += <-swept
	}
	total += w.sweepKind(certctl.RetainIdempotency, before)
	if total != 100 {
		t.Errorf("%d of 100 rows were swept", total)
	}
}
