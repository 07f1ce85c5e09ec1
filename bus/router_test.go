package bus_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

func TestHintsReachTheHandlerOfTheirVerb(t *testing.T) {
	t.Parallel()
	s := setup(t)
	got := make(chan certctl.Hint, 10)
	router := newRouter(s.conn, make(letters))
	record := func(_ context.Context, hint certctl.Hint) error {
		got <- hint
		return nil
	}
	router.Handle(certctl.HintIssue, record, bus.HandleOptions{Concurrency: 2})
	router.Handle(certctl.HintRenew, record, bus.HandleOptions{})
	background(t, router.Run)
	issued, renewed := issue(3), certctl.Hint{Verb: certctl.HintRenew, Lane: certctl.NoLane, IDs: []certctl.ID{someID}}
	give(t, s.conn, issued, renewed)
	for range 2 {
		hint := receive(t, got, "a hint")
		want := issued
		if hint.Verb == certctl.HintRenew {
			want = renewed
		}
		if hint.Verb != want.Verb || hint.Lane != want.Lane || !slices.Equal(hint.IDs, want.IDs) {
			t.Errorf("got %v, want %v", hint, want)
		}
	}
}

func TestHintsAreCutToTheSizeOfTheirVerb(t *testing.T) {
	t.Parallel()
	s := setup(t)
	got := make(chan int, 1000)
	router := newRouter(s.conn, make(letters))
	router.Handle(certctl.HintIssue, func(_ context.Context, hint certctl.Hint) error {
		got <- len(hint.IDs)
		return nil
	}, bus.HandleOptions{Concurrency: 4})
	background(t, router.Run)
	most := certctl.HintIssue.MaxIDs()
	must(t, bus.NewPublisher(s.conn).Publish(t.Context(), []certctl.Hint{issue(2*most + 1)}))
	for total := 0; total < 2*most+1; {
		n := receive(t, got, "a part of the hint")
		if total += n; n > most {
			t.Errorf("a hint of %d ids", n)
		}
	}
}

func TestWaitingHintsAreMerged(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var given []certctl.Hint
	for range 300 {
		given = append(given, issue(1))
	}
	give(t, s.conn, given...)
	got := make(chan int, 300)
	router := newRouter(s.conn, make(letters))
	router.Handle(certctl.HintIssue, func(_ context.Context, hint certctl.Hint) error {
		got <- len(hint.IDs)
		return nil
	}, bus.HandleOptions{Concurrency: 2, Batch: 100})
	background(t, router.Run)
	calls := 0
	for total := 0; total < 300; calls++ {
		n := receive(t, got, "the merged hints")
		if total += n; n > 100 {
			t.Errorf("a call of %d ids", n)
		}
	}
	if calls > 20 {
		t.Errorf("%d calls for 300 hints that waited", calls)
	}
}

func TestPoisonIsADeadLetterExactlyOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	dead := make(letters, 10)
	var calls atomic.Int64
	good := make(chan certctl.Hint, 10)
	poison := issue(1)
	router := newRouter(s.conn, dead)
	router.Handle(certctl.HintIssue, func(_ context.Context, hint certctl.Hint) error {
		if slices.Contains(hint.IDs, poison.IDs[0]) {
			calls.Add(1)
			panic("poison")
		}
		good <- hint
		return nil
	}, bus.HandleOptions{Concurrency: 1, Batch: 10})
	// Poison and its neighbours come in one call; the neighbours get theirs.
	neighbours := []certctl.Hint{issue(1), issue(1)}
	give(t, s.conn, neighbours[0], poison, neighbours[1])
	background(t, router.Run)
	letter := receive(t, dead, "the dead letter")
	if calls.Load() != bus.MaxTries {
		t.Errorf("the poison was tried %d times instead of %d", calls.Load(), bus.MaxTries)
	}
	if letter.Verb != certctl.HintIssue || letter.Lane != lane1 || !slices.Equal(letter.IDs, poison.IDs) || letter.ID.IsZero() {
		t.Errorf("the letter is %+v", letter)
	}
	for range neighbours {
		receive(t, good, "the neighbours of the poison")
	}
	after := issue(1)
	give(t, s.conn, after)
	receive(t, good, "a hint after the poison")
	settled(t, s.conn, certctl.HintIssue, lane1)
	if len(dead) != 0 {
		t.Errorf("there is another dead letter: %+v", <-dead)
	}
}

// settled returns when no delivered hint waits for its acknowledgement.
func settled(t *testing.T, conn *bus.Conn, verb certctl.HintVerb, lane string) {
	t.Helper()
	eventually(t, "the hints are acknowledged", func() bool {
		consumer, err := conn.JS().Consumer(t.Context(), bus.StreamIntent, bus.ConsumerName(verb, lane))
		must(t, err)
		info := consumer.CachedInfo()
		return info.NumAckPending == 0 && info.NumPending == 0
	})
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var calls atomic.Int64
	var outcome atomic.Value
	called := make(chan struct{}, 100)
	router := newRouter(s.conn, make(letters))
	router.Handle(certctl.HintIssue, func(context.Context, certctl.Hint) error {
		calls.Add(1)
		called <- struct{}{}
		return outcome.Load().(func() error)()
	}, bus.HandleOptions{})
	background(t, router.Run)
	for name, c := range map[string]struct {
		outcome func() error
		calls   int64
	}{
		"done":        {func() error { return nil }, 1},
		"discarded":   {func() error { return bus.Discard("of no use") }, 1},
		"retried":     {func() error { return bus.Retry(time.Millisecond) }, bus.MaxTries},
		"unavailable": {func() error { return &certctl.Error{Code: certctl.Unavailable, RetryAfter: time.Millisecond} }, bus.MaxTries},
	} {
		calls.Store(0)
		outcome.Store(c.outcome)
		give(t, s.conn, issue(1))
		for range c.calls {
			receive(t, called, name)
		}
		settled(t, s.conn, certctl.HintIssue, lane1)
		if calls.Load() != c.calls {
			t.Errorf("%s: %d calls, want %d", name, calls.Load(), c.calls)
		}
	}
}

func TestForgedAndUnknownHints(t *testing.T) {
	t.Parallel()
	s := setup(t)
	dead := make(letters, 10)
	got := make(chan certctl.Hint, 10)
	router := newRouter(s.conn, dead)
	router.Handle(certctl.HintIssue, func(_ context.Context, hint certctl.Hint) error {
		got <- hint
		return nil
	}, bus.HandleOptions{})
	background(t, router.Run)
	malformed, err := bus.HintMessage(issue(1))
	must(t, err)
	malformed.Data = []byte(`{"ids":["not an id"]}`)
	_, err = s.conn.JS().PublishMsg(t.Context(), malformed)
	must(t, err)
	if letter := receive(t, dead, "the letter of a malformed body"); string(letter.Message) != `{"ids":["not an id"]}` {
		t.Errorf("the letter holds %q", letter.Message)
	}
	unknown, err := bus.HintMessage(issue(1))
	must(t, err)
	unknown.Header.Set("certctl-version", "99")
	_, err = s.conn.JS().PublishMsg(t.Context(), unknown)
	must(t, err)
	// It waits for somebody newer; others do not wait for it.
	want := issue(1)
	give(t, s.conn, want, want)
	for range 2 {
		if hint := receive(t, got, "a good hint, doubled"); !slices.Equal(hint.IDs, want.IDs) {
			t.Errorf("got %v", hint)
		}
	}
	if len(dead) != 0 {
		t.Errorf("a newer hint is a dead letter at once: %+v", <-dead)
	}
}

func TestASlowCallKeepsItsHintAndAHungOneDoesNot(t *testing.T) {
	t.Parallel()
	s := setup(t)
	router := newRouter(s.conn, make(letters, 1))
	router.SetTimes(500*time.Millisecond, 100*time.Millisecond)
	type call struct {
		id   certctl.ID
		took time.Duration
	}
	calls := make(chan call, 10)
	release := make(chan struct{})
	hung := issue(1)
	router.Handle(certctl.HintIssue, func(ctx context.Context, hint certctl.Hint) error {
		began := time.Now()
		if hint.IDs[0] == hung.IDs[0] {
			calls <- call{id: hint.IDs[0]}
			<-release // whatever ctx says
			return nil
		}
		<-ctx.Done()
		calls <- call{hint.IDs[0], time.Since(began)}
		return nil
	}, bus.HandleOptions{Concurrency: 1, Deadline: 1700 * time.Millisecond})
	background(t, router.Run)
	defer close(release)
	slow := issue(1)
	give(t, s.conn, slow)
	first := receive(t, calls, "the slow call")
	if first.took < 1600*time.Millisecond || first.took > 5*time.Second {
		t.Errorf("the slow call ended after %s, not at its deadline", first.took)
	}
	settled(t, s.conn, certctl.HintIssue, lane1)
	if len(calls) != 0 {
		t.Errorf("the slow call was made again meanwhile: its hint was not kept")
	}
	// A call that hangs is given up, so that its lane goes on.
	give(t, s.conn, hung)
	receive(t, calls, "the call that hangs")
	next := issue(1)
	give(t, s.conn, next)
	for receive(t, calls, "a call after the hung one").id != next.IDs[0] {
		continue
	}
}

func TestStoppingWaitsForCallsUnderWay(t *testing.T) {
	t.Parallel()
	s := setup(t)
	began, release := make(chan struct{}), make(chan struct{})
	var ended atomic.Bool
	router := newRouter(s.conn, make(letters))
	router.Handle(certctl.HintIssue, func(ctx context.Context, _ certctl.Hint) error {
		close(began)
		<-release
		ended.Store(ctx.Err() == nil)
		return nil
	}, bus.HandleOptions{})
	stop := background(t, router.Run)
	give(t, s.conn, issue(1))
	receive(t, began, "the call")
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	close(release)
	if err := receive(t, stopped, "the router's end"); !errors.Is(err, context.Canceled) || !ended.Load() {
		t.Errorf("the router ended with %v; the call lived on: %v", err, ended.Load())
	}
	settled(t, s.conn, certctl.HintIssue, lane1)
}

func TestLanesComeAndGo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var lanes atomic.Value
	lanes.Store([]string{})
	got := make(chan certctl.Hint, 10)
	router := bus.NewRouter(s.conn, bus.RouterOptions{
		DeadLetters: make(letters), Lanes: func(context.Context) ([]string, error) { return lanes.Load().([]string), nil },
	})
	router.Handle(certctl.HintIssue, func(_ context.Context, hint certctl.Hint) error {
		got <- hint
		return nil
	}, bus.HandleOptions{})
	background(t, router.Run)
	give(t, s.conn, issue(1)) // before anybody listens
	lanes.Store([]string{lane1})
	router.RefreshLanes()
	receive(t, got, "the hint that was given before its lane was known")
}

func TestWipedBrokerUnderLoad(t *testing.T) {
	t.Parallel()
	s := setup(t)
	events := newTable()
	relay := bus.NewRelay(s.conn, events, nop)
	relay.SetEvery(50 * time.Millisecond)
	background(t, relay.Run)
	events.add(600, 10)
	got := make(chan certctl.Hint, 10000)
	router := newRouter(s.conn, make(letters))
	router.Handle(certctl.HintIssue, func(_ context.Context, hint certctl.Hint) error {
		got <- hint
		return nil
	}, bus.HandleOptions{Concurrency: 4})
	background(t, router.Run)
	keeper := s.server.Connect(t, bus.RoleScheduler)
	allowed(t, keeper)
	supervisor := bus.NewSupervisor(keeper, bus.SupervisorOptions{Log: nop, Streams: events, Fill: relay.Fill})
	background(t, supervisor.Run)
	published := func(n int) func() bool {
		return func() bool { p, _ := events.counts(); return p == n }
	}
	eventually(t, "the first events", published(600))
	give(t, s.conn, issue(1))
	receive(t, got, "a hint before")

	s.server.Down(t)
	s.server.Wipe(t)
	events.add(50, 10) // nobody can be told of these now
	s.server.Up(t)
	began := time.Now()
	// Hints are given again and again, as the dispatcher does.
	publisher := bus.NewPublisher(s.conn)
	eventually(t, "a hint after", func() bool {
		_ = publisher.Publish(t.Context(), []certctl.Hint{issue(1)}) // until somebody can
		return len(got) > 0
	})
	t.Logf("hints flow %s after the wiped broker is up", time.Since(began))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("hints flow only %s after", took)
	}
	eventually(t, "all events are in the new stream", func() bool {
		stream, err := s.conn.JS().Stream(t.Context(), bus.StreamEvent)
		return err == nil && stream.CachedInfo().State.Msgs >= 650 && published(650)()
	})
}
