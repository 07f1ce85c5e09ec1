package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// watcher notes when events arrive at a client that follows them over HTTPS.
type watcher struct {
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	arrived map[string]time.Time     // by object
	waiting map[string]chan struct{} // closed when it arrives
}

// watch follows the events of one name.
func (s *stand) watch(ctx context.Context, name string) (*watcher, error) {
	ctx, cancel := context.WithCancel(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.API.URL+"/api/v1/events?name="+name, http.NoBody)
	if err != nil {
		cancel()
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+s.API.Key)
	request.Header.Set("Accept", "text/event-stream")
	client := *s.API.HTTP
	client.Timeout = 0
	response, err := client.Do(request) //nolint:bodyclose // by the goroutine that reads it
	if err != nil {
		cancel()
		return nil, err
	}
	w := &watcher{stop: cancel, done: make(chan struct{}), arrived: map[string]time.Time{}, waiting: map[string]chan struct{}{}}
	began := make(chan struct{})
	go func() {
		defer close(w.done)
		defer response.Body.Close()
		w.read(bufio.NewScanner(response.Body), began)
	}()
	select {
	case <-began:
		return w, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.done:
		return nil, errors.New("the stream of events ended at once")
	}
}

// read notes events until the stream ends; began is closed with its first line.
func (w *watcher) read(lines *bufio.Scanner, began chan<- struct{}) {
	lines.Buffer(nil, 1<<20)
	for first := true; lines.Scan(); first = false {
		if first {
			close(began)
		}
		body, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		now := time.Now()
		var event struct {
			Object string `json:"object"`
		}
		if json.Unmarshal([]byte(body), &event) != nil {
			continue // a heartbeat
		}
		w.mu.Lock()
		if _, known := w.arrived[event.Object]; !known {
			w.arrived[event.Object] = now
		}
		if waiting, ok := w.waiting[event.Object]; ok {
			close(waiting)
			delete(w.waiting, event.Object)
		}
		w.mu.Unlock()
	}
}

// wait returns when the events about all objects have arrived.
func (w *watcher) wait(ctx context.Context, objects ...string) error {
	for n, object := range objects {
		if err := w.waitOne(ctx, object); err != nil {
			return fmt.Errorf("event %d of %d: %w", n+1, len(objects), err)
		}
	}
	return nil
}

// waitOne returns when an event about an object has arrived. One waits for an
// object at a time.
func (w *watcher) waitOne(ctx context.Context, object string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	w.mu.Lock()
	_, there := w.arrived[object]
	waiting := make(chan struct{})
	if !there {
		w.waiting[object] = waiting
	}
	w.mu.Unlock()
	if there {
		return nil
	}
	select {
	case <-waiting:
		return nil
	case <-w.done:
		return errors.New("the stream of events has ended")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// after returns how long after the given moments the objects' events came.
func (w *watcher) after(began map[string]time.Time) times {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(times, 0, len(began))
	for object, at := range began {
		out = append(out, w.arrived[object].Sub(at))
	}
	return out
}

func (w *watcher) close() {
	w.stop()
	<-w.done
}

// clients returns an API whose calls each have a connection of their own that is
// kept, as many as are under way at once.
func (s *stand) clients(most int) (*local.API, error) {
	client, err := s.Server.Client()
	if err != nil {
		return nil, err
	}
	transport, ok := client.Transport.(*http.Transport)
	if !ok {
		return nil, errors.New("the client has another transport than expected")
	}
	transport.ForceAttemptHTTP2 = false
	transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost, transport.MaxConnsPerHost = most, most, most
	return &local.API{URL: s.API.URL, Key: s.API.Key, HTTP: client}, nil
}
