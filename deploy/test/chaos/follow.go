package chaos

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// follower reads the feed of events as downstream automation does: when its
// connection breaks it goes on, at whichever server, after the last event that
// it has seen.
type follower struct {
	apis  []*local.API
	first string // the event after which it begins
	done  sync.WaitGroup
	stop  context.CancelFunc

	mu   sync.Mutex // guards what follows
	seen map[string]bool
	last string
}

func newFollower(apis []*local.API) *follower {
	return &follower{apis: apis, seen: map[string]bool{}}
}

// start begins after the newest event that there is.
func (f *follower) start(ctx context.Context) error {
	var page struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	if err := f.apis[0].Call(ctx, http.MethodGet, "/api/v1/events?newest=true&limit=1", nil, &page); err != nil {
		return err
	}
	f.first = page.Items[0].ID // making a fleet is an event
	f.last = f.first
	ctx, f.stop = context.WithCancel(ctx)
	f.done.Go(func() {
		for try := 0; ctx.Err() == nil; try++ {
			f.once(ctx, f.apis[try%len(f.apis)])
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return nil
}

func (f *follower) end() {
	f.stop()
	f.done.Wait()
}

// once reads until the connection ends.
func (f *follower) once(ctx context.Context, api *local.API) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, api.URL+"/api/v1/events", nil)
	if err != nil {
		return
	}
	request.Header.Set("Authorization", "Bearer "+api.Key)
	request.Header.Set("Accept", "text/event-stream")
	f.mu.Lock()
	if f.last != "" {
		request.Header.Set("Last-Event-ID", f.last)
	}
	f.mu.Unlock()
	response, err := (&http.Client{Transport: api.HTTP.Transport}).Do(request) // it takes as long as it takes
	if err != nil {
		return
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id:"); ok {
			f.mu.Lock()
			f.last = strings.TrimSpace(id)
			f.seen[f.last] = true
			f.mu.Unlock()
		}
	}
}

// missing returns those of the events that were not seen.
func (f *follower) missing(ids []string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, id := range ids {
		if !f.seen[id] {
			out = append(out, id)
		}
	}
	return out
}
