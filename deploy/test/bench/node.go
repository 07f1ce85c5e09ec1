package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/deploy/test/fleet"
)

const (
	nodeAgents   = 1000
	nodeIdle     = 200  // deployments one after the other
	nodeInFlight = 256  // deployments under way at once
	nodeTotal    = 5000 // of those
)

// node measures the way to the nodes: a thousand agents with connections and
// identities of their own make keys and report what they have installed.
func node(ctx context.Context, o options, r *result) error {
	return withStand(ctx, o, func(s *stand) error {
		agents := o.of(nodeAgents)
		crowd, err := s.crowd(ctx, agents)
		if err != nil {
			return err
		}
		defer crowd.Close()
		api, err := s.clients(nodeInFlight)
		if err != nil {
			return err
		}
		if err := s.targets(ctx, api, agents); err != nil {
			return err
		}
		w, err := s.watch(ctx, "deployment_installed")
		if err != nil {
			return err
		}
		defer w.close()
		began, ids := map[string]time.Time{}, []string{}
		for n := range o.of(nodeIdle) {
			from := time.Now()
			id, err := submitTo(ctx, api, fmt.Sprintf("idle-%d", n), rand.IntN(agents))
			if err != nil {
				return err
			}
			began[id], ids = from, append(ids, id)
			if err := w.wait(ctx, ids[n]); err != nil {
				return err
			}
		}
		idle := w.after(began)
		r.need(fmt.Sprintf("POST to receipt recorded, %d agents, idle", agents), idle.at(0.5) < 25*time.Millisecond && idle.at(0.99) < 60*time.Millisecond,
			"p50 < 25 ms, p99 < 60 ms", "%s", idle)
		total := o.of(nodeTotal)
		var took time.Duration
		profiled := s.profile(ctx, "node", 10)
		err = s.metered(r, total, func() error {
			from := time.Now()
			if err := s.deployMany(ctx, api, w, total, agents); err != nil {
				return err
			}
			took = time.Since(from)
			return nil
		})
		if err := errors.Join(err, profiled()); err != nil {
			return err
		}
		rate := float64(total) / took.Seconds()
		r.need(fmt.Sprintf("deployments, %d under way", nodeInFlight), rate >= 300, "≥ 300/s", "%.0f/s", rate)
		r.note("The agents of this scenario are simulated, in the process of the load generator: real keys, connections and signatures, no disk.")
		return nil
	})
}

// crowd enrols and connects simulated agents.
func (s *stand) crowd(ctx context.Context, count int) (*fleet.Fleet, error) {
	pem, err := os.ReadFile(s.NATSFile("tls.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the certificate of the bus cannot be read")
	}
	crowd, err := fleet.Enrol(ctx, fleet.Options{
		API: s.API, BusURLs: []string{"tls://" + s.NATS[0].Listen}, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
		Count: count, Prefix: "crowd-",
	})
	if err != nil {
		return nil, fmt.Errorf("enrol %d agents: %w", count, err)
	}
	if err := crowd.Connect(ctx); err != nil {
		crowd.Close()
		return nil, fmt.Errorf("connect %d agents: %w", count, err)
	}
	return crowd, nil
}

// targets makes a target on each agent.
func (s *stand) targets(ctx context.Context, api *local.API, agents int) error {
	return inParallel(ctx, 32, agents, func(ctx context.Context, n int) error {
		return api.Call(ctx, http.MethodPost, "/api/v1/targets", map[string]any{
			"name": fmt.Sprintf("files-%d", n), "agent": fmt.Sprintf("crowd-%05d", n), "kind": "files",
			"settings": map[string]any{"directory": filepath.Join("/srv/certctl", fmt.Sprint(n))},
		}, nil)
	})
}

// submitTo submits a certificate whose key an agent makes, and returns its id.
func submitTo(ctx context.Context, api *local.API, name string, agent int) (string, error) {
	var made struct {
		ID string `json:"id"`
	}
	err := api.Call(ctx, http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": name, "dns_names": []string{name + ".bench.localhost"}, "issuer": "local", "targets": []string{fmt.Sprintf("files-%d", agent)},
	}, &made)
	return made.ID, err
}

// deployMany submits certificates, each when one of those under way is installed.
func (s *stand) deployMany(ctx context.Context, api *local.API, w *watcher, total, agents int) error {
	return inParallel(ctx, nodeInFlight, total, func(ctx context.Context, n int) error {
		id, err := submitTo(ctx, api, fmt.Sprintf("many-%d", n), n%agents)
		if err != nil {
			return err
		}
		return w.waitOne(ctx, id)
	})
}

// inParallel calls do for 0…n-1, so many at a time, until one fails.
func inParallel(ctx context.Context, most, n int, do func(ctx context.Context, n int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var group sync.WaitGroup
	for range most {
		group.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}
