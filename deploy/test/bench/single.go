package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

const (
	singleClients = 64
	singleTotal   = 20_000
	pacedFor      = 20 * time.Second
)

// single submits certificates one a request: first as fast as 64 clients can, then
// at the pace of a small and of a large organisation.
func single(ctx context.Context, o options, r *result) error {
	total := o.of(singleTotal)
	requests, err := makeRequests("b", total)
	if err != nil {
		return err
	}
	return withStand(ctx, o, func(s *stand) error {
		api, err := s.clients(singleClients)
		if err != nil {
			return err
		}
		wait := s.profile(ctx, "single", 10)
		if err := s.singleFlood(ctx, r, api, requests); err != nil {
			return err
		}
		if err := wait(); err != nil {
			return err
		}
		for _, pace := range []struct {
			rate                         int
			accept99, issued50, issued99 time.Duration
		}{
			{50, 10 * time.Millisecond, 12 * time.Millisecond, 30 * time.Millisecond},
			{500, 0, 30 * time.Millisecond, 150 * time.Millisecond},
		} {
			accepted, issued, err := s.paced(ctx, api, pace.rate, o)
			if err != nil {
				return err
			}
			what := fmt.Sprintf("%d a second: ", pace.rate)
			if pace.accept99 > 0 {
				r.need(what+"POST answered", accepted.at(0.99) < pace.accept99, "p99 < "+short(pace.accept99), "%s", accepted)
			} else {
				r.add(what+"POST answered", "%s", accepted)
			}
			r.need(what+"event of the issued certificate at a client", issued.at(0.5) < pace.issued50 && issued.at(0.99) < pace.issued99,
				fmt.Sprintf("p50 < %s, p99 < %s", short(pace.issued50), short(pace.issued99)), "%s", issued)
		}
		return nil
	})
}

// singleFlood has 64 clients submit all requests.
func (s *stand) singleFlood(ctx context.Context, r *result, api *local.API, requests []string) error {
	total := len(requests)
	accepted := make(times, total)
	var submitted, issued time.Duration
	err := s.metered(r, total, func() error {
		began := time.Now()
		var next atomic.Int64
		var group sync.WaitGroup
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		for range singleClients {
			group.Go(func() {
				for ctx.Err() == nil {
					n := int(next.Add(1)) - 1
					if n >= total {
						return
					}
					from := time.Now()
					if _, err := submitOne(ctx, api, fmt.Sprintf("b-%d", n), requests[n]); err != nil {
						cancel(err)
					}
					accepted[n] = time.Since(from)
				}
			})
		}
		group.Wait()
		if err := context.Cause(ctx); err != nil {
			return err
		}
		submitted = time.Since(began)
		err := s.await(ctx, `select not exists (select from due where kind = 'order')`)
		issued = time.Since(began)
		return err
	})
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("%d clients: accepted", singleClients), "%.0f/s", float64(total)/submitted.Seconds())
	rate := float64(total) / issued.Seconds()
	r.need(fmt.Sprintf("%d clients: accepted and issued", singleClients), rate >= 1800, "≥ 1,800/s", "%.0f/s", rate)
	r.need(fmt.Sprintf("%d clients: POST answered", singleClients), accepted.at(0.99) < 80*time.Millisecond, "p99 < 80 ms", "%s", accepted)
	return nil
}

// paced submits at a fixed rate, whatever the answers do, and returns how long
// they took and how long until the events were there.
func (s *stand) paced(ctx context.Context, api *local.API, rate int, o options) (accepted, issued times, err error) {
	total := max(int(pacedFor.Seconds()*o.scale*float64(rate)), rate)
	requests, err := makeRequests(fmt.Sprintf("p%d", rate), total)
	if err != nil {
		return nil, nil, err
	}
	w, err := s.watch(ctx, "certificate_issued")
	if err != nil {
		return nil, nil, err
	}
	defer w.close()
	accepted = make(times, total)
	began, ids := make(map[string]time.Time, total), make([]string, total)
	var mu sync.Mutex
	var group sync.WaitGroup
	errs := make([]error, total)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for n := range total {
		<-tick.C
		group.Go(func() {
			from := time.Now()
			ids[n], errs[n] = submitOne(ctx, api, fmt.Sprintf("p%d-%d", rate, n), requests[n])
			accepted[n] = time.Since(from)
			mu.Lock()
			began[ids[n]] = from
			mu.Unlock()
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, nil, err
		}
	}
	if err := w.wait(ctx, ids...); err != nil {
		return nil, nil, err
	}
	return accepted, w.after(began), nil
}

// submitOne submits a certificate and returns its id.
func submitOne(ctx context.Context, api *local.API, name, csr string) (string, error) {
	var made struct {
		ID string `json:"id"`
	}
	err := api.Call(ctx, http.MethodPost, "/api/v1/certificates", map[string]any{"name": name, "issuer": "local", "csr": csr}, &made)
	return made.ID, err
}
