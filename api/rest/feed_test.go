package rest_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest"
)

func someEvent(i int) certctl.Event {
	return certctl.Event{ID: certctl.NewID(time.Now()).WithOrder(i), Object: certctl.FirstIDAt(time.Unix(1, 0))}
}

// Events come by two ways and are told once.
func TestAFeedTellsEachEventOnce(t *testing.T) {
	t.Parallel()
	f := rest.NewFeed()
	events, stop := f.Subscribe()
	defer stop()
	changes, unwatch := f.Watch(someEvent(0).Object)
	defer unwatch()
	e := someEvent(1)
	f.Publish([]certctl.Event{e})
	f.Publish([]certctl.Event{e})
	if got := <-events; got.ID != e.ID {
		t.Errorf("told %s", got.ID)
	}
	<-changes
	select {
	case got := <-events:
		t.Errorf("told twice: %s", got.ID)
	case <-changes:
		t.Error("signalled twice")
	default:
	}
}

// One who does not listen loses his place, and nobody else's.
func TestASlowListenerHoldsUpNobody(t *testing.T) {
	t.Parallel()
	f := rest.NewFeed()
	slow, stopSlow := f.Subscribe()
	defer stopSlow()
	fast, stopFast := f.Subscribe()
	defer stopFast()
	const many = 1000
	for i := range many {
		f.Publish([]certctl.Event{someEvent(i % 4000)})
		<-fast
	}
	n := 0
	for range slow {
		n++
	}
	if n == 0 || n >= many {
		t.Errorf("the slow one was told %d events before it lost its place", n)
	}
}

// The bus is followed while somebody listens, and for a minute after that.
func TestTheBusIsFollowedWhileSomebodyListens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := rest.NewFeed()
		var follows atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- f.Run(ctx, func(ctx context.Context) error {
				follows.Add(1)
				<-ctx.Done()
				follows.Add(-1)
				return ctx.Err()
			})
		}()
		following := func(when string, want int32) {
			t.Helper()
			synctest.Wait()
			if n := follows.Load(); n != want {
				t.Errorf("%s: followed %d times over", when, n)
			}
		}
		following("nobody listens", 0)
		_, stop := f.Subscribe()
		following("one listens", 1)
		_, unwatch := f.Watch(someEvent(0).Object)
		following("two listen", 1)
		time.Sleep(10 * time.Minute) //nolint:forbidigo // time of the bubble: it passes at once
		following("two have listened for long", 1)
		stop()
		time.Sleep(10 * time.Minute) //nolint:forbidigo // time of the bubble: it passes at once
		following("one listens still", 1)
		unwatch()
		time.Sleep(59 * time.Second) //nolint:forbidigo // time of the bubble: it passes at once
		following("the last has just left", 1)
		time.Sleep(2 * time.Second) //nolint:forbidigo // time of the bubble: it passes at once
		following("nobody has listened for a minute", 0)
		_, stop = f.Subscribe()
		defer stop()
		following("one has come again", 1)
		cancel()
		if err := <-ended; err != context.Canceled { //nolint:errorlint // that one, bare
			t.Errorf("ended with %v", err)
		}
	})
}
