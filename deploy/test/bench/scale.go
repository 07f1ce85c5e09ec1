package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

const (
	// caPackage is a CA that speaks ACME; its version is that of the module.
	caPackage = "github.com/letsencrypt/pebble/v2/cmd/pebble"

	// caAnswer is how long each answer of it is under way, there and back.
	caAnswer = 50 * time.Millisecond

	scaleWarm = 20

	// scaleOrders is how many orders a worker works on at once: few, so that the
	// time of the CA bounds it and not the cores that all share here.
	scaleOrders = 3

	// scaleAuthority is the issuer's name.
	scaleAuthority = "far"
)

// scale issues through a CA that is far away with one, two and four workers.
func scale(ctx context.Context, o options, r *result) error {
	total := o.of(400)
	requests, err := makeRequests("j", 3*total+scaleWarm)
	if err != nil {
		return err
	}
	if err := local.Build(ctx, ".", o.binaries, caPackage); err != nil {
		return err
	}
	return withStandOf(ctx, o, []string{fmt.Sprintf("CERTCTL_WORKER_ORDERS=%d", scaleOrders)}, func(s *stand) error {
		if err := s.farAuthority(ctx, o); err != nil {
			return err
		}
		// The first order registers the account, and workers look for lanes.
		if _, _, err := s.throughFar(ctx, "warm", requests[3*total:]); err != nil {
			return err
		}
		var first float64
		for round, workers := range []int{1, 2, 4} {
			for len(s.Apart["worker"]) < workers {
				if err := s.AddApart(ctx, "worker"); err != nil {
					return err
				}
			}
			name := fmt.Sprintf("j%d", round)
			rate, busy, err := s.throughFar(ctx, name, requests[round*total:(round+1)*total])
			if err != nil {
				return err
			}
			what := fmt.Sprintf("%d certificates, workers: %d", total, workers)
			if round == 0 {
				first = rate
				r.add(what, "%.0f/s, CPU %.0f %%", rate, 100*busy)
				continue
			}
			share := rate / first / float64(workers)
			r.need(what, share >= 0.9, "≥ 90 % of linear", "%.0f/s, %.0f %% of linear, CPU %.0f %%", rate, 100*share, 100*busy)
		}
		r.note("The CA is a Pebble on the same cores; every answer of it takes %s. Each worker asks for %d orders at once (by default 128), so that it is the CA's time that bounds it, not the cores that all share here.", caAnswer, scaleOrders)
		return nil
	})
}

// throughFar submits the requests and returns how many certificates a second came
// of them, and what share of the CPU that took.
func (s *stand) throughFar(ctx context.Context, prefix string, requests []string) (rate, busy float64, err error) {
	before, err := busyMachine()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := s.submitTo(ctx, scaleAuthority, prefix, requests); err != nil {
		return 0, 0, err
	}
	if err := s.await(ctx, `select not exists (select from due where kind = 'order')`); err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	after, err := busyMachine()
	return float64(len(requests)) / took.Seconds(), float64(after-before) / float64(took) / float64(runtime.NumCPU()), err
}

// farAuthority starts the CA, puts it far away and makes it an issuer.
func (s *stand) farAuthority(ctx context.Context, o options) error {
	var addresses [3]string
	for i := range addresses {
		port, err := local.FreePort()
		if err != nil {
			return err
		}
		addresses[i] = local.Loopback(port)
	}
	near, management, front := addresses[0], addresses[1], addresses[2]
	dir := filepath.Join(s.Dir, "ca")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": near, "managementListenAddress": management, "certificate": s.NATSFile("tls.crt"), "privateKey": s.NATSFile("tls.key"),
		"httpPort": 80, "tlsPort": 443, "retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
	}})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	process, err := local.Start(local.Command{
		Args: []string{filepath.Join(o.binaries, "pebble"), "-config", file}, Name: "pebble", LogFile: filepath.Join(dir, "log"),
		Env: []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_VA_ALWAYS_VALID=1", "PEBBLE_WFE_NONCEREJECT=0"},
	})
	if err != nil {
		return err
	}
	s.Stack.Push(process)
	if err := process.Ready(ctx, local.Accepts("tcp", near)); err != nil {
		return err
	}
	line := &farLine{listen: front, near: near, bundle: s.NATSFile("tls.crt"), key: s.NATSFile("tls.key"), done: make(chan struct{})}
	if err := line.start(ctx); err != nil {
		return err
	}
	s.Stack.Push(line)
	bundle, err := os.ReadFile(line.bundle)
	if err != nil {
		return err
	}
	return s.API.Call(ctx, http.MethodPost, "/api/v1/issuers", map[string]any{
		"name": scaleAuthority, "kind": "acme", "settings": map[string]any{
			"directory": "https://" + front + "/dir", "terms_of_service_agreed": true, "ca_bundle": string(bundle),
			"allow_private_networks": true, "challenges": []map[string]any{{"type": "http-01"}},
		},
	}, nil)
}

// farLine answers as a CA far away does: each answer takes its time, and any
// number of them are under way at once. The CA itself gets one request after the
// other, since Pebble locks itself up when it gets many.
type farLine struct {
	listen, near, bundle, key string
	server                    *http.Server
	done                      chan struct{}
}

func (f *farLine) start(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "https", f.near // the CA makes its URLs of the Host that was asked
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // this machine's loopback
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	var one sync.Mutex
	f.server = &http.Server{
		ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			late := time.NewTimer(caAnswer)
			one.Lock()
			proxy.ServeHTTP(answer, r)
			one.Unlock()
			<-late.C
			maps.Copy(w.Header(), answer.Header())
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes()) // a client that has gone is no matter
		}),
	}
	go func() { _ = f.server.ServeTLS(listener, f.bundle, f.key) }()
	return nil
}

// Name is the name used in messages.
func (f *farLine) Name() string { return "line to the CA" }

// Done is never closed: it does not end by itself.
func (f *farLine) Done() <-chan struct{} { return f.done }

// Stop ends all connections.
func (f *farLine) Stop(context.Context) error { return f.server.Close() }
