package store

import (
	"context"
	"sync"
	"time"
)

// Bounds of gathering. Two transactions of a kind are under way at most: while one
// waits for its answer, the other works.
const (
	gatherMost    = 256
	gatherLeaders = 2
	gatherTime    = 30 * time.Second
)

// gathering lets calls that come at the same time share a transaction: most of what
// one costs, round trips and the commit, is the same for many. One that comes alone
// waits for nobody. The zero value is ready. T points at a call with its answer.
type gathering[T any] struct {
	mu      sync.Mutex
	queue   []queuedCall[T]
	leaders int
}

type queuedCall[T any] struct {
	call T
	done chan struct{}
}

// do returns when work has been done for the call, which it may be for several that
// go together. The caller leads them itself unless enough do.
func (g *gathering[T]) do(ctx context.Context, call T, together func(a, b T) bool, work func(context.Context, []T)) {
	mine := queuedCall[T]{call, make(chan struct{})}
	g.mu.Lock()
	g.queue = append(g.queue, mine)
	lead := g.leaders < gatherLeaders
	if lead {
		g.leaders++
	}
	g.mu.Unlock()
	if lead {
		g.lead(ctx, together, work)
	}
	<-mine.done
}

// lead works until nothing is queued. What others have asked for is not lost when
// the leader's client goes away.
func (g *gathering[T]) lead(ctx context.Context, together func(a, b T) bool, work func(context.Context, []T)) {
	for {
		batch := g.take(together)
		if len(batch) == 0 {
			return
		}
		calls := make([]T, len(batch))
		for i, one := range batch {
			calls[i] = one.call
		}
		life, cancel := context.WithTimeout(context.WithoutCancel(ctx), gatherTime)
		work(life, calls)
		cancel()
		for _, one := range batch {
			close(one.done)
		}
	}
}

// take returns the oldest call with those that go together with it. Without any, the
// caller leads no longer.
func (g *gathering[T]) take(together func(a, b T) bool) []queuedCall[T] {
	g.mu.Lock()
	defer g.mu.Unlock()
	var batch, rest []queuedCall[T]
	for _, one := range g.queue {
		if len(batch) < gatherMost && (len(batch) == 0 || together(batch[0].call, one.call)) {
			batch = append(batch, one)
		} else {
			rest = append(rest, one)
		}
	}
	g.queue = rest
	if len(batch) == 0 {
		g.leaders--
	}
	return batch
}
