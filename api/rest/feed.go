package rest

import (
	"sync"

	"github.com/certctl/certctl"
)

const (
	feedBuffer = 256  // events that a subscriber may be behind
	feedRecent = 4096 // ids that are remembered, since events come by two ways
)

// Feed hands this process's live events to whoever listens. What it is given
// comes from two sides, the process's own commits and the bus, and is told once.
// A listener that is too slow loses its place, not the others theirs: its
// channel is closed, and it goes on from the table.
type Feed struct {
	mu          sync.Mutex
	subscribers map[*subscriber]bool
	watchers    map[certctl.ID]map[chan struct{}]bool
	recent      map[certctl.ID]bool
	order       []certctl.ID // recent, oldest first
}

type subscriber struct{ events chan certctl.Event }

// NewFeed returns a feed that nobody listens to yet.
func NewFeed() *Feed {
	return &Feed{
		subscribers: map[*subscriber]bool{}, watchers: map[certctl.ID]map[chan struct{}]bool{}, recent: map[certctl.ID]bool{},
	}
}

// Publish tells everybody who listens. It never blocks.
func (f *Feed) Publish(events []certctl.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		if f.recent[e.ID] {
			continue
		}
		f.remember(e.ID)
		for s := range f.subscribers {
			select {
			case s.events <- e:
			default:
				delete(f.subscribers, s)
				close(s.events)
			}
		}
		for changed := range f.watchers[e.Object] {
			select {
			case changed <- struct{}{}:
			default: // one is waiting already
			}
		}
	}
}

func (f *Feed) remember(id certctl.ID) {
	f.recent[id] = true
	f.order = append(f.order, id)
	if len(f.order) > feedRecent {
		delete(f.recent, f.order[0])
		f.order = f.order[1:]
	}
}

// Subscribe returns the events from now on. The channel is closed when the
// listener was too slow; stop ends the subscription.
func (f *Feed) Subscribe() (events <-chan certctl.Event, stop func()) {
	s := &subscriber{events: make(chan certctl.Event, feedBuffer)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subscribers[s] = true
	return s.events, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subscribers, s)
	}
}

// Watch returns a signal for each change of one object, merged while nobody
// looks; stop ends it.
func (f *Feed) Watch(object certctl.ID) (changes <-chan struct{}, stop func()) {
	changed := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers[object] == nil {
		f.watchers[object] = map[chan struct{}]bool{}
	}
	f.watchers[object][changed] = true
	return changed, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers[object], changed)
		if len(f.watchers[object]) == 0 {
			delete(f.watchers, object)
		}
	}
}
