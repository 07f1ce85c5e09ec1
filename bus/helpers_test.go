package bus_test

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/bustest"
)

// patience is how long a test waits for what should take much less.
const patience = 30 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// receive returns the next value of a channel.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-c:
		return value
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
		panic("unreachable")
	}
}

// eventually returns once true is.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// background runs something until the test ends.
func background(t *testing.T, run func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			t.Error("something does not stop")
			return nil
		}
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// site is a broker with its streams and a connection that may do all.
type site struct {
	server *bustest.Server
	conn   *bus.Conn
}

func setup(t *testing.T) site {
	t.Helper()
	server := bustest.Start(t)
	conn := server.Connect(t, bus.RoleWorker)
	bustest.Supervise(t, conn, bus.SupervisorOptions{})
	allowed(t, conn)
	return site{server, conn}
}

// allowed fails the test at its end when the broker has refused something.
func allowed(t *testing.T, conn *bus.Conn) {
	t.Helper()
	t.Cleanup(func() {
		if n, err := conn.Denials(); n != 0 {
			t.Errorf("the broker refused %d times, lastly: %v", n, err)
		}
	})
}

// table is an event table in memory.
type table struct {
	mu        sync.Mutex
	events    []certctl.Event
	published map[certctl.ID]bool
	aside     map[certctl.ID]string
	created   map[string]time.Time
}

func newTable() *table {
	return &table{published: map[certctl.ID]bool{}, aside: map[certctl.ID]string{}, created: map[string]time.Time{}}
}

// add writes n events with data of a size.
func (b *table) add(n, size int) []certctl.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, _ := json.Marshal(string(make([]byte, size))) // a string always encodes
	for range n {
		now := time.Now().UTC()
		b.events = append(b.events, certctl.Event{
			ID: certctl.NewID(now).WithOrder(len(b.events)), Time: now, Team: "default", Aggregate: certctl.AggregateCertificate,
			Object: someID, Sequence: int64(len(b.events) + 1), Name: certctl.EventCertificateIssued, Data: data,
		})
	}
	return slices.Clone(b.events[len(b.events)-n:])
}

func (b *table) UnpublishedEvents(_ context.Context, _ time.Duration, limit int) ([]certctl.Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []certctl.Event
	for _, e := range b.events {
		if _, aside := b.aside[e.ID]; !b.published[e.ID] && !aside && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (b *table) MarkPublished(_ context.Context, ids []certctl.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		b.published[id] = true
	}
	return nil
}

func (b *table) SetAsideEvent(_ context.Context, id certctl.ID, reason string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.aside[id] = reason
	return nil
}

func (b *table) EventsSince(_ context.Context, after certctl.ID, limit int) ([]certctl.Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []certctl.Event
	for _, e := range b.events {
		if string(e.ID[:]) > string(after[:]) && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (b *table) StreamCreated(_ context.Context, name string, at time.Time) (time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	previous := b.created[name]
	b.created[name] = at
	return previous, nil
}

func (b *table) counts() (published, aside int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.published), len(b.aside)
}

// inStream returns how many messages the event stream holds.
func inStream(t *testing.T, conn *bus.Conn) uint64 {
	t.Helper()
	stream, err := conn.JS().Stream(t.Context(), bus.StreamEvent)
	must(t, err)
	return stream.CachedInfo().State.Msgs
}

// letters records dead letters.
type letters chan certctl.DeadLetter

func (l letters) RecordDeadLetter(_ context.Context, letter certctl.DeadLetter) error {
	l <- letter
	return nil
}

// newRouter returns a router with short times, whose lane of issuers is lane1.
func newRouter(conn *bus.Conn, dead letters) *bus.Router {
	router := bus.NewRouter(conn, bus.RouterOptions{
		DeadLetters: dead, Log: zerolog.Nop(), Drain: 5 * time.Second,
		Lanes: func(context.Context) ([]string, error) { return []string{lane1}, nil },
	})
	router.SetTimes(2*time.Second, 100*time.Millisecond)
	return router
}

const lane1 = "0190aaaa-0000-7000-8000-0000000000aa"

func give(t *testing.T, conn *bus.Conn, hints ...certctl.Hint) {
	t.Helper()
	must(t, bus.NewPublisher(conn).Publish(t.Context(), hints))
}

func issue(n int) certctl.Hint {
	h := certctl.Hint{Verb: certctl.HintIssue, Lane: lane1}
	for range n {
		h.IDs = append(h.IDs, certctl.NewID(time.Now()))
	}
	return h
}

var nop = zerolog.Nop()
