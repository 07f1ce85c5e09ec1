package bus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/certctl/certctl"
)

// Bounds of what an Announcer holds. Beyond them hints and bells are dropped (the
// dispatcher gives them again) and events are left to the relay's leftovers.
const (
	announceIDs    = 1 << 16
	announceEvents = 1 << 15
)

// announceAge is how long an event may wait here. One that has waited longer is
// left to the relay's leftovers, well before they take it: a batch with an event
// that the stream has already is refused as a whole.
const announceAge = leftoverAge / 2

// lastAnnounce is how long the rest may take to be told when the process stops.
const lastAnnounce = 2 * time.Second

// Announcer tells what has been committed: hints, bells, events. Telling never
// blocks and never fails; what comes up while the last publish is under way goes
// out together with the next, so that a burst of commits makes few messages.
type Announcer struct {
	publisher *Publisher
	bells     *Bells
	relay     *Relay
	log       zerolog.Logger
	// Offline is told which rung agents are off line; nil: nobody is.
	Offline func(agents []certctl.ID)

	dropped atomic.Int64

	mu     sync.Mutex // guards the rest
	hints  map[work]*idSet
	count  int // ids in hints
	rung   idSet
	events []waitingEvent

	now func() time.Time

	wakeHints, wakeBells, wakeEvents chan struct{} // capacity 1
}

// waitingEvent is an event, and since when it waits.
type waitingEvent struct {
	event certctl.Event
	since time.Time
}

// work is a verb in a lane.
type work struct {
	verb certctl.HintVerb
	lane string
}

// idSet is a set of ids in the order in which they came.
type idSet struct {
	list []certctl.ID
	has  map[certctl.ID]struct{}
}

// add reports whether the id is new.
func (s *idSet) add(id certctl.ID) bool {
	if _, ok := s.has[id]; ok {
		return false
	}
	if s.has == nil {
		s.has = make(map[certctl.ID]struct{})
	}
	s.has[id] = struct{}{}
	s.list = append(s.list, id)
	return true
}

// NewAnnouncer returns an announcer; relay may be nil where a process leaves all
// its events to others.
func NewAnnouncer(publisher *Publisher, bells *Bells, relay *Relay, log zerolog.Logger) *Announcer {
	return &Announcer{
		publisher: publisher, bells: bells, relay: relay, log: log, hints: make(map[work]*idSet), now: time.Now,
		wakeHints: make(chan struct{}, 1), wakeBells: make(chan struct{}, 1), wakeEvents: make(chan struct{}, 1),
	}
}

// Announce takes the effects of one commit. It is a certctl.Announcer.
func (a *Announcer) Announce(effects certctl.Effects) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, hint := range effects.Hints {
		a.take(hint)
	}
	if a.relay == nil || len(effects.Events) == 0 {
		return
	}
	room := max(announceEvents-len(a.events), 0)
	a.dropped.Add(int64(max(len(effects.Events)-room, 0)))
	since := a.now()
	for _, e := range effects.Events[:min(room, len(effects.Events))] {
		a.events = append(a.events, waitingEvent{e, since})
	}
	wake(a.wakeEvents)
}

// take merges a hint with what waits. The caller holds the lock.
func (a *Announcer) take(hint certctl.Hint) {
	if hint.Verb == certctl.HintBell {
		for _, agent := range hint.IDs {
			if len(a.rung.list) >= announceIDs {
				a.dropped.Add(1)
				continue
			}
			a.rung.add(agent)
		}
		wake(a.wakeBells)
		return
	}
	key := work{hint.Verb, hint.Lane}
	set := a.hints[key]
	if set == nil {
		set = new(idSet)
		a.hints[key] = set
	}
	for _, id := range hint.IDs {
		if a.count >= announceIDs {
			a.dropped.Add(1)
			continue
		}
		if set.add(id) {
			a.count++
		}
	}
	wake(a.wakeHints)
}

// Dropped returns how many ids and events were not told, since too much waited.
func (a *Announcer) Dropped() int64 { return a.dropped.Load() }

// Run tells until ctx ends, then what is left, and returns the error of ctx.
// Hints, bells and events do not wait for one another.
func (a *Announcer) Run(ctx context.Context) error {
	// What was begun is finished also when we stop, within bounds.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(lastAnnounce, end) })
	defer stop()
	var group errgroup.Group
	for wakeUp, tell := range map[<-chan struct{}]func(context.Context) error{
		a.wakeHints: a.tellHints, a.wakeBells: a.tellBells, a.wakeEvents: a.tellEvents,
	} {
		group.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					a.report(tell(life))
					return ctx.Err()
				case <-wakeUp:
					a.report(tell(life))
				}
			}
		})
	}
	return group.Wait()
}

// report logs what could not be told. The database still knows it.
func (a *Announcer) report(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		a.log.Warn().Err(err).Msg("what was committed cannot be told now; it will be")
	}
}

func (a *Announcer) tellHints(ctx context.Context) error {
	a.mu.Lock()
	waiting := a.hints
	a.hints, a.count = make(map[work]*idSet), 0
	a.mu.Unlock()
	hints := make([]certctl.Hint, 0, len(waiting))
	for key, set := range waiting {
		hints = append(hints, certctl.Hint{Verb: key.verb, Lane: key.lane, IDs: set.list})
	}
	if len(hints) == 0 {
		return nil
	}
	return a.publisher.Publish(ctx, hints)
}

func (a *Announcer) tellBells(ctx context.Context) error {
	a.mu.Lock()
	agents := a.rung.list
	a.rung = idSet{}
	a.mu.Unlock()
	if len(agents) == 0 {
		return nil
	}
	offline, err := a.bells.Ring(ctx, agents)
	if a.Offline != nil && len(offline) > 0 {
		a.Offline(offline)
	}
	return err
}

// tellEvents publishes the events of one batch while those of the batch before are
// taken off the table's list.
func (a *Announcer) tellEvents(ctx context.Context) error {
	a.mu.Lock()
	waiting := a.events
	a.events = nil
	a.mu.Unlock()
	var recording errgroup.Group
	recording.SetLimit(1)
	var failure error
	for chunk := range slices.Chunk(waiting, batchMost) {
		var events []certctl.Event
		for _, w := range chunk {
			if a.now().Sub(w.since) < announceAge {
				events = append(events, w.event)
			}
		}
		a.dropped.Add(int64(len(chunk) - len(events)))
		if len(events) == 0 {
			continue
		}
		result := a.relay.send(ctx, events)
		recording.Go(func() error { return a.relay.record(ctx, result) })
		if result.err != nil {
			failure = a.relay.conn.unreachable(result.err, "events cannot be published")
			break
		}
	}
	return errors.Join(failure, recording.Wait())
}
