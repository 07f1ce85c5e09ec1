package bus_test

import (
	"errors"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/bustest"
)

// The scheduler reads again what the stream has had since a moment, and no more.
func TestReplayHandsOverWhatTheStreamHas(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	conn := server.Connect(t, bus.RoleScheduler)
	allowed(t, conn)
	since := time.Now().Add(-time.Minute)
	found, err := bus.Replay(t.Context(), conn, since, func([]certctl.Event) error { return errors.New("there is nothing") })
	if err != nil || found {
		t.Fatalf("without a stream: found %v, %v", found, err)
	}
	bustest.Supervise(t, conn, bus.SupervisorOptions{})
	table := newTable()
	want := table.add(700, 10)
	_, _, err = bus.NewRelay(conn, table, nop).Publish(t.Context(), want)
	must(t, err)

	var got []certctl.Event
	take := func(events []certctl.Event) error {
		got = append(got, events...)
		return nil
	}
	found, err = bus.Replay(t.Context(), conn, since, take)
	must(t, err)
	if !found || len(got) != len(want) || got[0].ID != want[0].ID || got[699].ID != want[699].ID {
		t.Errorf("found %v, %d of %d events", found, len(got), len(want))
	}
	got = nil
	if _, err := bus.Replay(t.Context(), conn, time.Now().Add(time.Hour), take); err != nil || len(got) != 0 {
		t.Errorf("%d events from the future, %v", len(got), err)
	}
	broken := errors.New("the table is away")
	if _, err := bus.Replay(t.Context(), conn, since, func([]certctl.Event) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("the taker's error is %v", err)
	}
}
