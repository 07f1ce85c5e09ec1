package rest_test

import (
	"testing"
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
