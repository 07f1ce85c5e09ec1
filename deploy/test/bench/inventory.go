package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// inventoryCalls is how often each question is asked.
const inventoryCalls = 200

// inventory asks what people and dashboards ask of a million certificates, and of
// five.
func inventory(ctx context.Context, o options, r *result) error {
	return withStand(ctx, o, func(s *stand) error {
		if err := s.seedAgent(ctx); err != nil {
			return err
		}
		small, large := o.of(1_000_000), o.of(5_000_000)
		if err := s.seed(ctx, seeded{to: small}); err != nil {
			return err
		}
		first, err := s.ask(ctx, small)
		if err != nil {
			return err
		}
		if err := s.seed(ctx, seeded{from: small + 1, to: large}); err != nil {
			return err
		}
		second, err := s.ask(ctx, large)
		if err != nil {
			return err
		}
		for i, q := range questions {
			worst, before := second[i].at(0.99), first[i].at(0.99)
			r.need(q.what, worst < 50*time.Millisecond && before < 50*time.Millisecond && worst < 2*before+time.Millisecond,
				"p99 < 50 ms, at most doubled", "p50 %s, p99 %s; of %d: p50 %s, p99 %s",
				short(first[i].at(0.5)), short(before), large, short(second[i].at(0.5)), short(worst))
		}
		r.note("Each of %d and of %d certificates, %d times over one connection, with TLS, authentication and rights.", small, large, inventoryCalls)
		return nil
	})
}

// question is a list that somebody asks for; n is different each time.
type question struct {
	what string
	path func(n, total int) string
}

var questions = []question{
	{"first page", func(_, _ int) string { return "/api/v1/certificates?limit=50" }},
	{"page 10,000 by cursor", func(_, total int) string { return "/api/v1/certificates?limit=50&cursor=" + deepCursor(total) }},
	{"by a rare status", func(int, int) string { return "/api/v1/certificates?limit=50&status=degraded" }},
	{"by label", func(n, _ int) string {
		return "/api/v1/certificates?limit=50&label=" + url.QueryEscape(fmt.Sprintf("app=app-%d", n%5000))
	}},
	{"search by name", func(n, total int) string {
		return fmt.Sprintf("/api/v1/certificates?limit=50&q=seed-%d.bench.localhost", 1+n*7919%total)
	}},
	{"search by serial number", func(n, total int) string {
		return fmt.Sprintf("/api/v1/versions?limit=50&serial=5e%038x", 1+n*7919%total)
	}},
	{"expiring within 21 days", func(int, int) string {
		return "/api/v1/certificates?limit=50&expires_before=" + url.QueryEscape(time.Now().Add(21*24*time.Hour).UTC().Format(time.RFC3339))
	}},
	{"statistics of all (metrics)", func(int, int) string { return "/metrics" }},
	{"one by name", func(n, total int) string { return fmt.Sprintf("/api/v1/certificates/seed-%d", 1+n*7919%total) }},
}

// deepCursor is where page 10,000 of fifty begins, or the middle of a smaller
// inventory: a cursor is what the API gave for the last item of the page before,
// which no client makes itself.
func deepCursor(total int) string {
	id := fmt.Sprintf("01900000000070008000%012x", max(total-10_000*50, total/2))
	raw, _ := hex.DecodeString("01" + id) // digits only
	return base64.RawURLEncoding.EncodeToString(raw)
}

// ask asks each question and returns how long the answers took.
func (s *stand) ask(ctx context.Context, total int) ([]times, error) {
	api, err := s.clients(1)
	if err != nil {
		return nil, err
	}
	all := make([]times, len(questions))
	for i, q := range questions {
		for n := range inventoryCalls {
			took, err := timed(ctx, api, q.path(n, total))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.what, err)
			}
			if n > 0 { // the first one connects
				all[i] = append(all[i], took)
			}
		}
	}
	return all, nil
}

// timed gets a path and returns how long the answer took.
func timed(ctx context.Context, api *local.API, path string) (time.Duration, error) {
	var body []byte
	began := time.Now()
	err := api.Call(ctx, http.MethodGet, path, nil, &body)
	return time.Since(began), err
}
