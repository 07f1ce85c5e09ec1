package main

import (
	"context"
	"time"
)

// fileEvery is how often a file that somebody may replace is looked at.
const fileEvery = 30 * time.Second

// follow looks at a file again and again until ctx ends. What is wrong with it is
// logged as problem, and what it said before holds.
func (s *server) follow(ctx context.Context, look func(context.Context) error, problem string) error {
	ticker := time.NewTicker(fileEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := look(ctx); err != nil && ctx.Err() == nil {
			s.log.Error().Err(err).Msg(problem)
		}
	}
}
