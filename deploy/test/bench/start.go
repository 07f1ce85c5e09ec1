package main

import (
	"context"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// start kills every server of an installation with much to do, and measures how
// long each takes to be ready again.
func start(ctx context.Context, o options, r *result) error {
	return withStand(ctx, o, func(s *stand) error {
		if err := s.seedAgent(ctx); err != nil {
			return err
		}
		total, unread := o.of(1_000_000), o.of(100_000)
		for _, role := range local.Roles {
			s.Apart[role][0].Kill()
		}
		if err := s.seed(ctx, seeded{to: total, due: total, unread: unread}); err != nil {
			return err
		}
		if _, err := s.store.Pool().Exec(ctx, `update due set due_at = now() where kind = 'holder'`); err != nil {
			return err
		}
		r.note("%d holders are due, %d events are not on the bus.", total, unread)
		for _, role := range local.Roles {
			began := time.Now()
			if err := s.Restart(ctx, role, 0); err != nil {
				return err
			}
			took := time.Since(began)
			r.need("from the start of a process to ready: "+role, took < 3*time.Second, "< 3 s", "%s", short(took))
		}
		return nil
	})
}
