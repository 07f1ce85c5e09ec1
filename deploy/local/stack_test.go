package local_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl/deploy/local"
)

// service is one whose end a test decides.
type service struct {
	done    chan struct{}
	failure error
	name    string
	stopped *[]string
}

func (s service) Done() <-chan struct{} { return s.done }
func (s service) Name() string          { return s.name }

func (s service) Stop(context.Context) error {
	*s.stopped = append(*s.stopped, s.name)
	return s.failure
}

func TestStackStopsInReverseOrder(t *testing.T) {
	t.Parallel()
	var stack local.Stack
	var stopped []string
	failure := errors.New("stuck")
	stack.Push(service{name: "database", stopped: &stopped})
	stack.Push(service{name: "server", stopped: &stopped, failure: failure})
	stack.Push(service{name: "agent", stopped: &stopped})

	if err := stack.Stop(t.Context()); !errors.Is(err, failure) {
		t.Errorf("the failure is lost: %v", err)
	}
	if want := []string{"agent", "server", "database"}; !slices.Equal(stopped, want) {
		t.Errorf("stopped %v, want %v", stopped, want)
	}
	if err := stack.Stop(t.Context()); err != nil || len(stopped) != 3 {
		t.Errorf("the second stop did something: %v, %v", err, stopped)
	}
}

func TestStackWaitNamesTheServiceThatEnded(t *testing.T) {
	t.Parallel()
	var stack local.Stack
	ended := service{name: "server", done: make(chan struct{})}
	stack.Push(service{name: "database", done: make(chan struct{})})
	stack.Push(ended)
	close(ended.done)

	err := stack.Wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), "server") {
		t.Errorf("got %v", err)
	}
}

func TestStackWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	var stack local.Stack
	stack.Push(service{name: "database", done: make(chan struct{})})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	if err := stack.Wait(ctx); err != nil {
		t.Errorf("got %v", err)
	}
}
