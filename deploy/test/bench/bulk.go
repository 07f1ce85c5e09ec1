package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	bulkItems   = 1000 // certificates in one request
	bulkSenders = 4    // requests under way at once
)

// bulk submits CSRs a thousand at a time and measures until the last one is
// issued and recorded and its events are on the bus.
func bulk(ctx context.Context, o options, r *result) error {
	limit, err := signLimit()
	if err != nil {
		return err
	}
	total := o.of(100_000)
	requests, err := makeRequests("a", total)
	if err != nil {
		return err
	}
	return withStand(ctx, o, func(s *stand) error {
		wait := s.profile(ctx, "bulk", 10)
		var submitted, issued, published time.Duration
		before, err := s.disk(ctx)
		if err != nil {
			return err
		}
		err = s.metered(r, total, func() (err error) {
			began := time.Now()
			if err := s.submitBulk(ctx, "a", requests); err != nil {
				return err
			}
			submitted = time.Since(began)
			if err := s.await(ctx, `select not exists (select from due where kind = 'order')`); err != nil {
				return err
			}
			issued = time.Since(began)
			err = s.await(ctx, `select not exists (select from event_out)`)
			published = time.Since(began)
			return err
		})
		if err != nil {
			return err
		}
		after, err := s.disk(ctx)
		if err != nil {
			return err
		}
		r.add("disk a piece", "PostgreSQL %.1f KB, bus %.1f KB", float64(after.database-before.database)/float64(total)/1000, float64(after.bus-before.bus)/float64(total)/1000)
		rate := float64(total) / published.Seconds()
		r.add("limit of this machine: check a CSR and sign", "%.0f/s", limit)
		r.add(fmt.Sprintf("%d certificates submitted", total), "%.0f/s", float64(total)/submitted.Seconds())
		r.add("issued and recorded", "%.0f/s", float64(total)/issued.Seconds())
		r.need("issued, recorded, events published", rate >= 2500, "≥ 2,500/s", "%.0f/s", rate)
		r.need("share of the limit", rate >= 0.3*limit, "≥ 30 %", "%.0f %%", 100*rate/limit)
		if err := wait(); err != nil {
			return err
		}
		return s.bulkOnTop(ctx, o, r, requests, rate)
	})
}

// bulkOnTop issues once more, a quarter as many, when the inventory is large.
func (s *stand) bulkOnTop(ctx context.Context, o options, r *result, requests []string, fresh float64) error {
	stock := o.of(1_000_000)
	if err := s.seedAgent(ctx); err != nil {
		return err
	}
	if err := s.seed(ctx, seeded{to: stock}); err != nil {
		return err
	}
	some := requests[:len(requests)/4]
	began := time.Now()
	if err := s.submitBulk(ctx, "b", some); err != nil {
		return err
	}
	if err := s.await(ctx, `select not exists (select from due where kind = 'order') and not exists (select from event_out)`); err != nil {
		return err
	}
	rate := float64(len(some)) / time.Since(began).Seconds()
	r.need(fmt.Sprintf("the same on top of %d certificates", stock), rate >= 0.85*fresh, "≥ 85 %", "%.0f/s, %.0f %%", rate, 100*rate/fresh)
	return nil
}

// submitBulk submits CSRs to the CA of our own, a certificate for each.
func (s *stand) submitBulk(ctx context.Context, prefix string, requests []string) error {
	return s.submitTo(ctx, "local", prefix, requests)
}

func (s *stand) submitTo(ctx context.Context, issuer, prefix string, requests []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var group sync.WaitGroup
	for range bulkSenders {
		group.Go(func() {
			for ctx.Err() == nil {
				at := int(next.Add(1)-1) * bulkItems
				if at >= len(requests) {
					return
				}
				if err := s.submitSome(ctx, issuer, prefix, requests, at); err != nil {
					cancel(err)
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

func (s *stand) submitSome(ctx context.Context, issuer, prefix string, requests []string, at int) error {
	type item struct {
		Name   string `json:"name"`
		Issuer string `json:"issuer"`
		CSR    string `json:"csr"`
	}
	var items []item
	for n := at; n < min(at+bulkItems, len(requests)); n++ {
		items = append(items, item{fmt.Sprintf("%s-%d", prefix, n), issuer, requests[n]})
	}
	var answer struct {
		Items []struct {
			Problem *struct {
				Detail string `json:"detail"`
			} `json:"problem"`
		} `json:"items"`
	}
	if err := s.API.Call(ctx, http.MethodPost, "/api/v1/bulk/certificates", map[string]any{"items": items}, &answer); err != nil {
		return err
	}
	for i, one := range answer.Items {
		if one.Problem != nil {
			return fmt.Errorf("%s was refused: %s", items[i].Name, one.Problem.Detail)
		}
	}
	return nil
}

// disk is how many bytes are stored.
type disk struct{ database, bus int64 }

func (s *stand) disk(ctx context.Context) (d disk, err error) {
	if err := s.store.Pool().QueryRow(ctx, `select pg_database_size(current_database())`).Scan(&d.database); err != nil {
		return d, err
	}
	err = filepath.WalkDir(s.NATSStore(0), func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // NATS has replaced it
		}
		if err == nil {
			d.bus += info.Size()
		}
		return err
	})
	return d, err
}
