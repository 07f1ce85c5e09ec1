package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/bustest"
)

func TestAnnouncerTellsHintsBellsAndEvents(t *testing.T) {
	t.Parallel()
	s := setup(t)
	online, absent := certctl.NewID(time.Now()), certctl.NewID(time.Now())
	agent := s.server.Agent(t, online)
	events := newTable()
	announcer := bus.NewAnnouncer(bus.NewPublisher(s.conn), bus.NewBells(s.conn), bus.NewRelay(s.conn, events, nop), nop)
	offline := make(chan []certctl.ID, 10)
	announcer.Offline = func(agents []certctl.ID) { offline <- agents }
	got := make(chan certctl.Hint, 100)
	router := newRouter(s.conn, make(letters))
	router.Handle(certctl.HintIssue, func(_ context.Context, hint certctl.Hint) error {
		got <- hint
		return nil
	}, bus.HandleOptions{Batch: certctl.MaxHintIDs})
	background(t, router.Run)

	// Before Run everything gathers: 100 commits with one order each are one hint.
	for range 100 {
		announcer.Announce(certctl.Effects{Hints: []certctl.Hint{issue(1)}, Events: events.add(1, 10)})
	}
	announcer.Announce(certctl.Effects{Hints: []certctl.Hint{{Verb: certctl.HintBell, Lane: certctl.NoLane, IDs: []certctl.ID{online, absent, online}}}})
	stop := background(t, announcer.Run)
	if hint := receive(t, got, "the hint"); len(hint.IDs) != 100 {
		t.Errorf("the first hint has %d ids", len(hint.IDs))
	}
	receive(t, agent.Bells(), "the bell")
	if agents := receive(t, offline, "who is off line"); len(agents) != 1 || agents[0] != absent {
		t.Errorf("off line are %v", agents)
	}
	eventually(t, "the events are marked", func() bool { n, _ := events.counts(); return n == 100 })
	if n := inStream(t, s.conn); n != 100 {
		t.Errorf("the stream holds %d events", n)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("the announcer ended with %v", err)
	}
	if announcer.Dropped() != 0 {
		t.Errorf("%d were dropped", announcer.Dropped())
	}
}

// Others publish what has waited for long: told by both, it would cost a sync.
func TestAnnouncerLeavesOldEventsToOthers(t *testing.T) {
	t.Parallel()
	s := setup(t)
	events := newTable()
	announcer := bus.NewAnnouncer(bus.NewPublisher(s.conn), bus.NewBells(s.conn), bus.NewRelay(s.conn, events, nop), nop)
	now := time.Now()
	announcer.SetClock(func() time.Time { return now })
	announcer.Announce(certctl.Effects{Events: events.add(3, 0)})
	now = now.Add(bus.AnnounceAge)
	announcer.Announce(certctl.Effects{Events: events.add(2, 0)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := announcer.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the announcer ended with %v", err)
	}
	if n, _ := events.counts(); n != 2 || announcer.Dropped() != 3 {
		t.Errorf("%d events were told and %d left to others", n, announcer.Dropped())
	}
}

func TestAnnouncerTellsTheRestWhenItStops(t *testing.T) {
	t.Parallel()
	s := setup(t)
	events := newTable()
	announcer := bus.NewAnnouncer(bus.NewPublisher(s.conn), bus.NewBells(s.conn), bus.NewRelay(s.conn, events, nop), nop)
	announcer.Announce(certctl.Effects{Events: events.add(3, 10)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := announcer.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the announcer ended with %v", err)
	}
	if n, _ := events.counts(); n != 3 {
		t.Errorf("%d events were told at the end", n)
	}
}

// Without a broker nothing blocks, nothing grows for ever, and what is dropped is
// counted.
func TestAnnouncerNeverBlocksNorGrows(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	conn := server.Connect(t, bus.RoleAPI)
	server.Down(t)
	events := newTable()
	announcer := bus.NewAnnouncer(bus.NewPublisher(conn), bus.NewBells(conn), bus.NewRelay(conn, events, nop), nop)
	many := events.add(100, 0)
	for range 600 {
		announcer.Announce(certctl.Effects{Hints: []certctl.Hint{issue(256)}, Events: many})
	}
	const kept = 1<<16 + 1<<15
	if want := int64(600*(256+100) - kept); announcer.Dropped() != want {
		t.Errorf("%d were dropped instead of %d", announcer.Dropped(), want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := announcer.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the announcer ended with %v", err)
	}
	if n, _ := events.counts(); n != 0 {
		t.Errorf("%d events count as published without a broker", n)
	}
}
