package rest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/certctl/certctl"
)

const (
	feedBuffer = 256  // events that a subscriber may be behind
	feedRecent = 4096 // ids that are remembered, since events come by two ways

	feedLinger = time.Minute // how long the bus is followed after the last listener has left
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
	order       []certctl.ID  // recent, oldest first
	changed     chan struct{} // somebody has begun or ceased to listen
}

type subscriber struct{ events chan certctl.Event }

// NewFeed returns a feed that nobody listens to yet.
func NewFeed() *Feed {
	return &Feed{
		subscribers: map[*subscriber]bool{}, watchers: map[certctl.ID]map[chan struct{}]bool{}, recent: map[certctl.ID]bool{},
		changed: make(chan struct{}, 1),
	}
}

// Run has follow bring what other processes publish, while somebody listens and a
// little longer: a replica at which nobody listens need not read every event of
// the installation. follow works until its context ends; Run until ctx ends, or
// follow fails.
func (f *Feed) Run(ctx context.Context, follow func(context.Context) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.changed:
		}
		if !f.listened() {
			continue
		}
		if err := f.followed(ctx, follow); err != nil {
			return err
		}
	}
}

// followed runs follow until nobody has listened for feedLinger.
func (f *Feed) followed(ctx context.Context, follow func(context.Context) error) error {
	life, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- follow(life) }()
	idle := time.NewTimer(feedLinger)
	defer idle.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-f.changed:
			idle.Reset(feedLinger)
		case <-idle.C:
			if !f.listened() {
				end()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					return err
				}
				return ctx.Err()
			}
			idle.Reset(feedLinger)
		}
	}
}

func (f *Feed) listened() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subscribers) > 0 || len(f.watchers) > 0
}

// tell says that somebody has begun or ceased to listen.
func (f *Feed) tell() {
	select {
	case f.changed <- struct{}{}:
	default: // it is known already
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
	f.tell()
	return s.events, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subscribers, s)
		f.tell()
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
	f.tell()
	return changed, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers[object], changed)
		if len(f.watchers[object]) == 0 {
			delete(f.watchers, object)
		}
		f.tell()
	}
}
