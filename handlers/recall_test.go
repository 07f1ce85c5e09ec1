package handlers_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
	"golang.org/x/sync/errgroup"
)

// fleet is a world with many leaves of one CA, which all may be recalled.
type fleet struct {
	*acmeWorld
	leaves [][]byte
	worker *replica
}

func newFleet(t testing.TB, n int) *fleet {
	t.Helper()
	f := &fleet{acmeWorld: newACME(t, acmetest.Options{})}
	f.leaves = f.pebble.Known(t, "example.com", n)
	var imports errgroup.Group
	imports.SetLimit(8)
	for i, leaf := range f.leaves {
		imports.Go(func() error {
			_, err := f.ImportCertificate(f.ctx, f.admin, certctl.ImportRequest{
				CertificateRequest: certctl.CertificateRequest{Name: fmt.Sprint("c", i), Issuers: []string{"pebble"}}, Leaf: leaf, Issued: true,
			})
			return err
		})
	}
	f.must(imports.Wait())
	f.worker = f.acmeWorld.worker("a", immortal)
	return f
}

// recall has the CA want all leaves back, and one of them asked about, as its time
// has come.
func (f *fleet) recall() {
	f.t.Helper()
	for _, leaf := range f.leaves {
		f.pebble.Suggest(f.t, leaf, f.now().Add(-2*time.Hour), f.now().Add(-time.Hour), "https://ca.example.com/incident")
	}
	_, err := f.Pool().Exec(f.ctx, `
		update due set due_at = now() where kind = 'renewal_info' and id = (select id from due where kind = 'renewal_info' order by id limit 1)`)
	f.must(err)
}

// work does what a scheduler and one worker do, as both are shipped, until nothing
// of these kinds is due; it returns how often it looked.
func (f *fleet) work() int {
	f.t.Helper()
	renew := handlers.NewRenew(f.Store, testLog(f.t))
	for looks := 0; ; looks++ {
		hints, err := f.ClaimDue(f.ctx, 5000, time.Minute)
		f.must(err)
		if len(hints) == 0 {
			return looks
		}
		var calls sync.WaitGroup
		slots := map[certctl.HintVerb]chan struct{}{certctl.HintRenewalInfo: make(chan struct{}, 2), certctl.HintRenew: make(chan struct{}, 2)}
		for _, hint := range hints {
			slot, mine := slots[hint.Verb]
			if !mine {
				continue
			}
			calls.Go(func() {
				slot <- struct{}{}
				defer func() { <-slot }()
				handle := f.worker.handle
				if hint.Verb == certctl.HintRenew {
					handle = renew.Handle
				}
				if err := handle(f.ctx, hint); err != nil {
					f.t.Errorf("%s: %v", hint.Verb, err)
				}
			})
		}
		calls.Wait()
	}
}

func (f *fleet) recalled() int {
	return f.count(`select count(*) from event where name = 'certificate_recalled'`)
}

func (f *fleet) ordered() int { return f.count(`select count(*) from cert_order`) }

// One leaf of a fleet is found to be recalled: all others are asked about at once
// and hardly one of them twice, over few connections, and replaced, although the mass-change
// guard holds and everything is frozen.
func TestARecallOfAFleetIsHeldByNothing(t *testing.T) {
	t.Parallel()
	n := 300
	if os.Getenv("CERTCTL_TEST_ALL") != "" {
		n = 2000
	}
	f := newFleet(t, n)
	_, err := f.CreateFreeze(f.ctx, f.admin, certctl.Freeze{Name: "holidays", Hard: true})
	f.must(err)
	// A change of ours makes all of them due, which is too much at once.
	_, err = f.Pool().Exec(f.ctx, `update certificate set revision = revision + 1`)
	f.must(err)
	_, err = f.Pool().Exec(f.ctx, `update due set due_at = now() where kind = 'holder'`)
	f.must(err)
	f.work()
	if guard, err := f.GetGuard(f.ctx, f.admin); err != nil || guard.HeldAt.IsZero() || f.ordered() != 0 {
		t.Fatalf("the guard does not hold: %+v, %d orders, %v", guard, f.ordered(), err)
	}
	f.recall()
	began := time.Now()
	looks := f.work()
	t.Logf("%d recalled and ordered in %s", n, time.Since(began))
	if got := f.recalled(); got != n {
		t.Errorf("%d of %d are recalled", got, n)
	}
	if got := f.ordered(); got != n {
		t.Errorf("%d of %d are ordered", got, n)
	}
	// Once for each, and again for the first one and those whose questions were under
	// way when it was found: two hints at a time, of 32 questions each.
	if asked := f.pebble.Count(acmetest.RenewalInfo); asked > n+64 {
		t.Errorf("the CA is asked %d times about %d leaves", asked, n)
	}
	// As many as questions are under way, and some that were closed meanwhile.
	if dialled := f.pebble.Dialled(); dialled > 100 {
		t.Errorf("%d connections for %d questions", dialled, n)
	}
	if looks > 4 {
		t.Errorf("it takes %d looks of the dispatcher", looks)
	}
	f.paced()
	f.consistent()
}

// paced has some of the ordered replacements asked for, which is what the issuer's
// rate allows and no more.
func (f *fleet) paced() {
	f.t.Helper()
	rate := certctl.Rate{Count: 5, Per: certctl.Duration(time.Hour)}
	_, err := f.Pool().Exec(f.ctx, `update issuer set rate_count = $1, rate_period = $2 where name = 'pebble'`, rate.Count, int64(rate.Per))
	f.must(err)
	for i := range 12 {
		c, err := f.GetCertificate(f.ctx, f.admin, fmt.Sprint("c", i))
		f.must(err)
		f.requested(c)
	}
	f.hurry()
	f.acmeWorld.work(f.worker)
	begun, waiting := f.count(`select count(*) from attempt`), f.count(`select count(*) from cert_order where wait = 'budget'`)
	if begun != rate.Count || waiting != 12-rate.Count {
		f.t.Errorf("%d are asked for, %d wait for the budget", begun, waiting)
	}
}

// BenchmarkRecall is what a fleet of ten thousand waits for between the first leaf
// that is found to be recalled and the last order of a replacement.
func BenchmarkRecall(b *testing.B) {
	const n = 10000
	for b.Loop() {
		b.StopTimer()
		f := newFleet(b, n)
		f.recall()
		b.StartTimer()
		f.work()
		b.StopTimer()
		if f.recalled() != n || f.ordered() != n {
			b.Fatalf("%d recalled, %d ordered", f.recalled(), f.ordered())
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds()*60, "recalls/min")
}
