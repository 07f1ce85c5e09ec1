package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// storm has a tenth of an inventory come due at once. Agents have handed over the
// requests for their next keys, so that each renewal goes through to its leaf.
func storm(ctx context.Context, o options, r *result) error {
	total, due := o.of(1_000_000), o.of(100_000)
	texts, err := makeRequests("seed", due+1) // the n-th has the n-th certificate's name
	if err != nil {
		return err
	}
	next := make([][]byte, due)
	for n := range next {
		block, _ := pem.Decode([]byte(texts[n+1]))
		next[n] = block.Bytes
	}
	return withStand(ctx, o, func(s *stand) error {
		if err := s.seedAgent(ctx); err != nil {
			return err
		}
		if err := s.seed(ctx, seeded{to: total, due: due, next: next}); err != nil {
			return err
		}
		wait := s.profile(ctx, "storm", 20)
		looking, stop := context.WithCancel(ctx)
		defer stop()
		lists := make(chan times, 1)
		go func() { lists <- s.lookMeanwhile(looking) }()
		var found, renewed time.Duration
		err := s.metered(r, due, func() error {
			if _, err := s.store.Pool().Exec(ctx, `
				update due set due_at = now() from generate_series(1, $1::int) g where kind = 'holder' and id = `+seedHolder, due); err != nil {
				return err
			}
			began := time.Now()
			if err := s.await(ctx, `select count(*) >= $1 from cert_order`, due); err != nil {
				return err
			}
			found = time.Since(began)
			err := s.await(ctx, `select not exists (select from due where kind = 'order') and not exists (select from event_out)`)
			renewed = time.Since(began)
			return err
		})
		stop()
		listed := <-lists
		if err != nil {
			return err
		}
		rate := float64(due) / found.Seconds()
		r.need(fmt.Sprintf("%d of %d found and ordered", due, total), rate >= 15_000, "≥ 15,000/s", "%.0f/s", rate)
		r.add("renewed, recorded, events published", "%.0f/s", float64(due)/renewed.Seconds())
		r.need("first page of the list meanwhile", listed.at(0.99) < 100*time.Millisecond, "p99 < 100 ms", "%s", listed)
		return wait()
	})
}

// lookMeanwhile asks for the first page until ctx ends, twenty times a second.
func (s *stand) lookMeanwhile(ctx context.Context) (all times) {
	api, err := s.clients(1)
	if err != nil {
		return nil
	}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return all
		case <-ticker.C:
		}
		took, err := timed(ctx, api, "/api/v1/certificates?limit=50")
		if errors.Is(err, context.Canceled) {
			return all
		}
		all = append(all, took)
	}
}
