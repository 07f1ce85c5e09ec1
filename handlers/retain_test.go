package handlers_test

import (
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
)

// One round of the sweeper counts what it has removed, and a second one finds
// nothing left.
func TestRetainSweepsWhatHasServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.Pool().Exec(w.ctx, `
		insert into idempotency (principal_id, key, request_hash, object_id, created_at)
		select gen_random_uuid(), n::text, '', gen_random_uuid(), now() - interval '30 days' from generate_series(1, 1200) n`); err != nil {
		t.Fatal(err)
	}
	keep, err := certctl.Retention{certctl.RetainEvents: certctl.KeepForever}.Complete()
	w.must(err)
	retain := handlers.NewRetain(w.Store, keep, testLog(t))
	for _, want := range []int{1200, 0} {
		counts, err := retain.RunOnce(w.ctx)
		if err != nil || counts[certctl.RetainIdempotency] != want {
			t.Errorf("swept %v, %v, want %d idempotency keys", counts, err, want)
		}
	}
	w.consistent()
}
