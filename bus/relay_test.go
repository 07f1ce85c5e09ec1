package bus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/bustest"
)

func TestRelayPublishesFewAndMany(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, n := range []int{1, 16, 17, 500, 1203} {
		events := newTable()
		relay := bus.NewRelay(s.conn, events, nop)
		before := inStream(t, s.conn)
		published, aside, err := relay.Publish(t.Context(), events.add(n, 10))
		must(t, err)
		if marked, _ := events.counts(); published != n || aside != 0 || marked != n || inStream(t, s.conn)-before != uint64(n) {
			t.Errorf("%d events: %d published, %d marked, %d aside, %d in the stream", n, published, marked, aside, inStream(t, s.conn)-before)
		}
	}
}

// The acknowledgement of a batch was lost: the same batch again is refused, and
// its events one by one are there already.
func TestRelayRepeatsABatchWhoseAcknowledgementWasLost(t *testing.T) {
	t.Parallel()
	s := setup(t)
	events := newTable()
	relay := bus.NewRelay(s.conn, events, nop)
	batch := events.add(40, 10)
	must(t, relay.SendBatch(t.Context(), batch))
	var refusal *jetstream.APIError
	if err := relay.SendBatch(t.Context(), batch); !errors.As(err, &refusal) || refusal.ErrorCode != 10201 {
		t.Fatalf("the same batch again gives %v, not 10201", err)
	}
	published, aside, err := relay.RunOnce(t.Context())
	must(t, err)
	if published != 40 || aside != 0 || inStream(t, s.conn) != 40 {
		t.Errorf("%d published, %d aside, %d in the stream", published, aside, inStream(t, s.conn))
	}
}

func TestRelayPublishesABatchOfWhichOneIsThere(t *testing.T) {
	t.Parallel()
	s := setup(t)
	events := newTable()
	relay := bus.NewRelay(s.conn, events, nop)
	batch := events.add(30, 10)
	_, _, err := relay.Publish(t.Context(), batch[7:8])
	must(t, err)
	published, _, err := relay.Publish(t.Context(), batch)
	must(t, err)
	if published != 30 || inStream(t, s.conn) != 30 {
		t.Errorf("%d published, %d in the stream", published, inStream(t, s.conn))
	}
}

func TestRelaySetsOneBadEventAsideAndPublishesTheOthers(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, good := range []int{5, 50} {
		events := newTable()
		before := inStream(t, s.conn)
		relay := bus.NewRelay(s.conn, events, nop)
		events.add(good, 10)
		bad := events.add(1, 300<<10)[0]
		events.add(good, 10)
		published, aside, err := relay.RunOnce(t.Context())
		must(t, err)
		if published != 2*good || aside != 1 || !strings.Contains(events.aside[bad.ID], "bytes") || inStream(t, s.conn)-before != uint64(2*good) {
			t.Errorf("%d published, %d aside (%v)", published, aside, events.aside)
		}
		if published, aside, err = relay.RunOnce(t.Context()); err != nil || published+aside != 0 {
			t.Errorf("afterwards %d are published and %d set aside, %v", published, aside, err)
		}
	}
}

func TestRelayLeavesEventsWhenThereIsNoStream(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	conn := server.Connect(t, bus.RoleScheduler)
	for _, n := range []int{3, 30} {
		events := newTable()
		events.add(n, 10)
		published, aside, err := bus.NewRelay(conn, events, nop).RunOnce(t.Context())
		if certctl.ErrorCode(err) != certctl.Unavailable || published+aside != 0 {
			t.Errorf("%d published, %d aside, %v", published, aside, err)
		}
	}
}

func TestNewStreamIsFilledOnceAndAgainWhenItsFillerDied(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	conn := server.Connect(t, bus.RoleScheduler)
	events := newTable()
	events.add(1100, 10)
	relay := bus.NewRelay(conn, events, nop)
	died := bus.NewSupervisor(conn, bus.SupervisorOptions{
		Log: nop, Streams: events, Fill: func(context.Context) error { return errors.New("killed") },
	})
	if err := died.RunOnce(t.Context()); err == nil || inStream(t, conn) != 0 {
		t.Fatalf("the first filler gives %v", err)
	}
	supervisor := bus.NewSupervisor(conn, bus.SupervisorOptions{Log: nop, Streams: events, Fill: relay.Fill})
	must(t, supervisor.RunOnce(t.Context()))
	if n := inStream(t, conn); n != 0 {
		t.Errorf("the second process does not wait for the first: %d events", n)
	}
	supervisor.SetGrace(0)
	must(t, supervisor.RunOnce(t.Context()))
	if n := inStream(t, conn); n != 1100 {
		t.Errorf("the stream holds %d events", n)
	}
	other := bus.NewSupervisor(conn, bus.SupervisorOptions{
		Log: nop, Streams: events, Fill: func(context.Context) error { return errors.New("it is filled") },
	})
	other.SetGrace(0)
	must(t, other.RunOnce(t.Context()))
}

func TestSupervisorRefusesAForeignStream(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	conn := server.Connect(t, bus.RoleWorker)
	_, err := conn.JS().CreateStream(t.Context(), jetstream.StreamConfig{
		Name: bus.StreamIntent, Subjects: []string{"certctl.v1.intent.>"}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.MemoryStorage,
	})
	must(t, err)
	err = bus.NewSupervisor(conn, bus.SupervisorOptions{Log: nop}).Run(t.Context())
	if certctl.ErrorCode(err) != certctl.Conflict {
		t.Errorf("the supervisor ended with %v", err)
	}
}

func TestSupervisorMendsOlderStreamsAndLeavesNewer(t *testing.T) {
	t.Parallel()
	s := setup(t)
	supervisor := bus.NewSupervisor(s.conn, bus.SupervisorOptions{Log: nop})
	for schema, mended := range map[string]bool{"0": true, "1": true, "99": false} {
		stream, err := s.conn.JS().Stream(t.Context(), bus.StreamEvent)
		must(t, err)
		config := stream.CachedInfo().Config
		config.MaxAge = time.Hour
		config.Metadata["certctl-schema"] = schema
		_, err = s.conn.JS().UpdateStream(t.Context(), config)
		must(t, err)
		must(t, supervisor.RunOnce(t.Context()))
		stream, err = s.conn.JS().Stream(t.Context(), bus.StreamEvent)
		must(t, err)
		if got := stream.CachedInfo().Config.MaxAge != time.Hour; got != mended {
			t.Errorf("schema %s: mended %v, want %v", schema, got, mended)
		}
	}
}

func TestReadersAndFeedsGetEvents(t *testing.T) {
	t.Parallel()
	s := setup(t)
	reader := certctl.Reader{ID: someID, Team: "default", Filters: []string{string(certctl.AggregateCertificate)}}
	must(t, bus.CreateReader(t.Context(), s.conn, reader))
	must(t, bus.CreateReader(t.Context(), s.conn, reader))
	got := make(chan certctl.Event, 10)
	follower := s.server.Connect(t, bus.RoleAPI)
	allowed(t, follower)
	background(t, func(ctx context.Context) error { return bus.Follow(ctx, follower, func(e certctl.Event) { got <- e }) })
	// Two of single events: the one that is published, and another.
	issued := certctl.Reader{ID: certctl.NewID(time.Now()), Filters: []string{"certificate.certificate_issued", "agent"}}
	revoked := certctl.Reader{ID: certctl.NewID(time.Now()), Team: "default", Filters: []string{"certificate.version_revoked"}}
	must(t, bus.CreateReader(t.Context(), s.conn, issued))
	must(t, bus.CreateReader(t.Context(), s.conn, revoked))
	events := newTable()
	relay := bus.NewRelay(s.conn, events, nop)
	// The feed tells what is published once it listens.
	eventually(t, "an event follows", func() bool {
		_, _, err := relay.Publish(t.Context(), events.add(1, 10))
		must(t, err)
		return len(got) > 0
	})
	if e := <-got; e.Name != certctl.EventCertificateIssued || e.Object != someID {
		t.Errorf("the feed tells %+v", e)
	}
	eventually(t, "all events wait for the reader", func() bool {
		return pendingOf(t, s.conn, reader) == inStream(t, s.conn) && pendingOf(t, s.conn, issued) == inStream(t, s.conn)
	})
	if n := pendingOf(t, s.conn, revoked); n != 0 {
		t.Errorf("a reader of revocations has %d other events waiting", n)
	}
	must(t, bus.DeleteReader(t.Context(), s.conn, reader.ID))
	must(t, bus.DeleteReader(t.Context(), s.conn, reader.ID))
}

func pendingOf(t *testing.T, conn *bus.Conn, reader certctl.Reader) uint64 {
	t.Helper()
	consumer, err := conn.JS().Consumer(t.Context(), bus.StreamEvent, bus.ReaderConsumer(reader.ID))
	must(t, err)
	return consumer.CachedInfo().NumPending
}
