package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// Options say which agents there are to be.
type Options struct {
	API     *local.API // of an administrator
	BusURLs []string   // tls://host:port
	TLS     *tls.Config
	Count   int
	// Prefix begins the agents' names; the rest is a number.
	Prefix string
	// Parallel is how many are enrolled or connected at a time; 0: 32.
	Parallel int
}

const defaultParallel = 32

// Fleet is agents that are connected, or try to be, until Close.
type Fleet struct {
	Agents []*Agent
	o      Options
	stop   context.CancelFunc
	group  sync.WaitGroup
}

// Enrol makes the agents, with one join token, through the API.
func Enrol(ctx context.Context, o Options) (*Fleet, error) {
	if o.Parallel == 0 {
		o.Parallel = defaultParallel
	}
	var token struct {
		Token string `json:"token"`
	}
	request := map[string]any{"uses": o.Count, "expires_in": "1h", "names": []string{o.Prefix + "*"}}
	if err := o.API.Call(ctx, http.MethodPost, "/api/v1/agents/join-tokens", request, &token); err != nil {
		return nil, err
	}
	f := &Fleet{o: o, Agents: make([]*Agent, o.Count)}
	return f, f.parallel(ctx, func(ctx context.Context, n int) (err error) {
		f.Agents[n], err = enrol(ctx, o, token.Token, fmt.Sprintf("%s%05d", o.Prefix, n))
		return err
	})
}

// Connect brings all agents to the bus and lets them work until ctx ends or Close.
// It returns when each has had an answer from its mailbox.
func (f *Fleet) Connect(ctx context.Context) error {
	life, stop := context.WithCancel(ctx)
	f.stop = stop
	began := time.Now()
	if err := f.parallel(ctx, func(_ context.Context, n int) error {
		a := f.Agents[n]
		if err := a.connect(life, f.o); err != nil {
			return err
		}
		f.group.Go(func() { a.work(life) })
		return nil
	}); err != nil {
		return err
	}
	_, err := f.Answered(ctx, began)
	return err
}

// Answered waits until every agent has had an answer from its mailbox that it
// asked for after a moment, and returns how long after it each got it, the fastest
// first.
func (f *Fleet) Answered(ctx context.Context, after time.Time) ([]time.Duration, error) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	times := make([]time.Duration, len(f.Agents))
	for n := 0; n < len(f.Agents); {
		if at := f.Agents[n].firstAfter(after); !at.IsZero() {
			times[n] = at.Sub(after)
			n++
			continue
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d agents have no answer: %w", f.without(after), len(f.Agents), context.Cause(ctx))
		}
	}
	slices.Sort(times)
	return times, nil
}

func (f *Fleet) without(after time.Time) (n int) {
	for _, a := range f.Agents {
		if a.firstAfter(after).IsZero() {
			n++
		}
	}
	return n
}

// Connected is how many agents are connected now.
func (f *Fleet) Connected() (n int) {
	for _, a := range f.Agents {
		if a.conn != nil && a.conn.Connected() {
			n++
		}
	}
	return n
}

// Installed is how many installations all agents have reported together.
func (f *Fleet) Installed() (n int64) {
	for _, a := range f.Agents {
		n += a.installs.Load()
	}
	return n
}

// Close ends the agents.
func (f *Fleet) Close() {
	if f.stop == nil {
		return
	}
	f.stop()
	f.group.Wait()
	_ = f.parallel(context.Background(), func(_ context.Context, n int) error {
		f.Agents[n].close()
		return nil
	})
}

// parallel calls do for each agent's number, Parallel at a time, until one fails.
func (f *Fleet) parallel(ctx context.Context, do func(ctx context.Context, n int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var next atomic.Int64
	var group sync.WaitGroup
	errs := make([]error, f.o.Parallel)
	for worker := range errs {
		group.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(f.Agents) {
					return
				}
				if err := do(ctx, n); err != nil {
					errs[worker] = err
					cancel()
				}
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}
