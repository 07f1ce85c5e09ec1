package bus_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/bustest"
)

func TestReconnectsAreSpread(t *testing.T) {
	t.Parallel()
	limit := func(d time.Duration) time.Duration { return d }
	for n, want := range map[uint]time.Duration{1: 30 * time.Second, 2: time.Minute, 3: 2 * time.Minute, 4: 4 * time.Minute, 5: 4 * time.Minute, 1000: 4 * time.Minute} {
		if got := bus.PaceDelay(n, limit); got != want {
			t.Errorf("attempt %d comes within %s instead of %s", n, got, want)
		}
	}
}

func TestDeniedPublishesAreCounted(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	conn := server.Connect(t, bus.RoleAPI)
	must(t, conn.NATS().Publish("somewhere.else", nil))
	eventually(t, "the refusal is counted", func() bool {
		n, err := conn.Denials()
		return n == 1 && strings.Contains(err.Error(), "somewhere.else")
	})
}

// A broker that refuses the credentials is asked again and again: the next ones
// may be better.
func TestConnectOutlivesBadCredentials(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	options := server.Options(t, bus.RoleWorker)
	options.InProcess, options.URLs, options.TLS = nil, []string{server.URL()}, server.TLS()
	good, tries, better := options.JWT, make(chan struct{}, 1000), make(chan struct{})
	options.JWT = func() (string, error) {
		tries <- struct{}{}
		select {
		case <-better:
			return good()
		default:
			return strings.Replace(must2(good()), ".", ".x", 1), nil
		}
	}
	conn, err := bus.Connect(t.Context(), options)
	must(t, err)
	defer conn.Close()
	for range 5 { // the library gives up after two by itself
		receive(t, tries, "another log-in")
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := conn.Wait(short); certctl.ErrorCode(err) != certctl.Unavailable {
		t.Errorf("waiting gives %v", err)
	}
	close(better)
	long, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, conn.Wait(long))
}

func must2(s string, err error) string {
	if err != nil {
		panic(err)
	}
	return s
}

func TestConnectWaitsForABrokerThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	options := server.Options(t, bus.RoleWorker)
	server.Down(t)
	conn, err := bus.Connect(t.Context(), options)
	must(t, err)
	defer conn.Close()
	if conn.Connected() {
		t.Error("it is connected to nothing")
	}
	server.Up(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, conn.Wait(ctx))
}

func TestNonces(t *testing.T) {
	t.Parallel()
	seed, public, err := bus.NewUserKey()
	must(t, err)
	if len(public) != 56 || public[0] != 'U' {
		t.Errorf("the public key is %q", public)
	}
	signature, err := bus.SignNonce(seed, []byte("nonce"))
	must(t, err)
	if len(signature) != 64 {
		t.Errorf("a signature of %d bytes", len(signature))
	}
	if _, err := bus.SignNonce([]byte("SUBAD"), nil); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("a bad seed gives %v", err)
	}
}

// Not parallel: it counts the goroutines of this package's code, and others' tests
// run it, too.
//
//nolint:paralleltest // see above
func TestNothingIsLeftRunning(t *testing.T) {
	before := ours()
	server := bustest.Start(t)
	conn, err := bus.Connect(t.Context(), server.Options(t, bus.RoleWorker))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	router := newRouter(conn, make(letters))
	router.Handle(certctl.HintIssue, func(context.Context, certctl.Hint) error { return nil }, bus.HandleOptions{Concurrency: 4})
	events := newTable()
	relay := bus.NewRelay(conn, events, nop)
	supervisor := bus.NewSupervisor(conn, bus.SupervisorOptions{Log: nop, Streams: events, Fill: relay.Fill})
	done := make(chan error, 10)
	running := []func(context.Context) error{
		supervisor.Run, router.Run, relay.Run,
		bus.NewAnnouncer(bus.NewPublisher(conn), bus.NewBells(conn), relay, nop).Run,
		func(ctx context.Context) error {
			return bus.ServeReports(ctx, conn, func(_ context.Context, s []certctl.Statement) []certctl.ReportAnswer {
				return make([]certctl.ReportAnswer, len(s))
			})
		},
	}
	for _, run := range running {
		go func() { done <- run(ctx) }()
	}
	agent := server.Agent(t, certctl.NewID(time.Now()))
	receive(t, supervisor.Ready(), "the streams")
	give(t, conn, issue(1))
	settledOrNew(t, conn)
	cancel()
	for range running {
		if err := receive(t, done, "the end"); !errors.Is(err, context.Canceled) {
			t.Errorf("something ended with %v", err)
		}
	}
	agent.Close()
	conn.Close()
	server.Down(t)
	eventually(t, "all goroutines have ended", func() bool { return ours() <= before })
}

// settledOrNew returns when the one hint was taken and acknowledged.
func settledOrNew(t *testing.T, conn *bus.Conn) {
	t.Helper()
	eventually(t, "the hint is acknowledged", func() bool {
		consumer, err := conn.JS().Consumer(t.Context(), bus.StreamIntent, bus.ConsumerName(certctl.HintIssue, lane1))
		return err == nil && consumer.CachedInfo().AckFloor.Consumer == 1
	})
}

// ours counts the goroutines that are in, or were started by, the bus or its
// library.
func ours() int {
	buffer := make([]byte, 4<<20)
	stacks := string(buffer[:runtime.Stack(buffer, true)])
	n := 0
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if strings.Contains(stack, "certctl/bus.") || strings.Contains(stack, "nats.go") {
			n++
		}
	}
	return n
}
