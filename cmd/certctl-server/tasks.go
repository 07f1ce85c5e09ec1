package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

// tasks are the long-running parts of the process. The first that fails, or
// panics, ends all of them.
type tasks struct {
	group *errgroup.Group
	ctx   context.Context
}

func newTasks(ctx context.Context) *tasks {
	group, ctx := errgroup.WithContext(ctx)
	return &tasks{group: group, ctx: ctx}
}

// run starts one part; its error names it.
func (t *tasks) run(name string, part func(context.Context) error) {
	t.group.Go(func() (err error) {
		defer func() {
			if caught := recover(); caught != nil {
				err = fmt.Errorf("%s: panic: %v\n%s", name, caught, debug.Stack())
			}
		}()
		err = part(t.ctx)
		if err == nil || errors.Is(err, context.Canceled) && t.ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("%s: %w", name, err)
	})
}

// wait returns when all parts have ended, with the first cause.
func (t *tasks) wait() error { return t.group.Wait() }
