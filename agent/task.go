package agent

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// runTasks runs all tasks until one returns or ctx ends, cancels the others,
// waits for them, and returns the first cause: nil when that was ctx.
func runTasks(ctx context.Context, tasks ...func(context.Context) error) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	for _, task := range tasks {
		group.Go(func() { cancel(task(inner)) })
	}
	group.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(inner)
}

// sleep waits and reports whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// spread is the pause before try n of something that a whole fleet may have to
// repeat at once: uniform in [0, unit · 2^min(n-1, 3)).
func spread(n int, unit time.Duration) time.Duration {
	return rand.N(unit << min(max(n-1, 0), 3))
}
