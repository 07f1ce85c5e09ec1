package rest_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// sse is one event of a stream.
type sse struct{ id, name string }

// listen opens a stream; the events arrive on the channel until the test ends.
func (w *world) listen(key, query string, headers ...string) <-chan sse {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	w.t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL+"/api/v1/events"+query, nil)
	w.must(err)
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := w.server.Client().Do(request) //nolint:bodyclose // closed by the goroutine that reads it
	w.must(err)
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(response.Body)
		w.t.Fatalf("status %d: %s", response.StatusCode, body)
	}
	events, opened := make(chan sse, 100), make(chan struct{})
	go func() {
		defer close(events)
		defer response.Body.Close()
		var e sse
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "retry":
				close(opened)
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "":
				if e.id != "" {
					events <- e
				}
				e = sse{}
			}
		}
	}()
	<-opened
	return events
}

// next waits for an event with the name, and returns it.
func (w *world) next(events <-chan sse, name certctl.EventName) sse {
	w.t.Helper()
	deadline := time.After(15 * time.Second)
	for {
		select {
		case e, open := <-events:
			if !open {
				w.t.Fatalf("the stream ended before %s", name)
			}
			if e.name == string(name) {
				return e
			}
		case <-deadline:
			w.t.Fatalf("no event %s", name)
		}
	}
}

func (w *world) create(name string) {
	w.t.Helper()
	w.as(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": name, "issuer": "local", "key_mode": "csr", "dns_names": []string{name + ".example.com"},
	}).want(http.StatusCreated)
}

// What happens is told as it happens, and after a break from where it broke.
func TestEventsAreStreamedAndReplayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("before")
	live := w.listen(w.admin, "")
	w.create("first")
	first := w.next(live, certctl.EventCertificateCreated)
	w.create("second")
	second := w.next(live, certctl.EventCertificateCreated)
	again := w.listen(w.admin, "?name=certificate_created", "Last-Event-ID", first.id)
	for {
		got := w.next(again, certctl.EventCertificateCreated)
		if got.id == first.id {
			t.Fatal("the event that was named came again")
		}
		if got.id == second.id {
			break
		}
	}
	w.create("third")
	if third := w.next(again, certctl.EventCertificateCreated); third.id == second.id {
		t.Error("an event came twice on one connection")
	}
}

// A stream shows what a list would: filters and rights hold for what comes live.
func TestAStreamShowsWhatAListWould(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	viewer := w.member("viewer", "", "viewer")
	live := w.listen(viewer, "")
	filtered := w.listen(w.admin, "?aggregate=access")
	w.create("shop")
	w.member("another", "", "viewer")
	w.next(filtered, certctl.EventPrincipalCreated)
	w.create("mail")
	for certificates := 0; certificates < 2; {
		switch e := <-live; e.name {
		case string(certctl.EventCertificateCreated):
			certificates++
		case string(certctl.EventPrincipalCreated):
			t.Error("a viewer was told of a new principal")
		case "":
			t.Fatal("the stream ended")
		}
	}
	w.as(http.MethodGet, "/api/v1/events?newest=true", nil, "Accept", "text/event-stream").want(http.StatusBadRequest)
}

func TestTheAuditLogIsPaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.create(name)
	}
	type list struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
		Next string `json:"next_cursor"`
	}
	var all list
	w.as(http.MethodGet, "/api/v1/events?limit=1000", nil).want(http.StatusOK).into(&all)
	var ids []string
	for after := ""; ; {
		var page list
		w.as(http.MethodGet, "/api/v1/events?limit=4&after="+after, nil).want(http.StatusOK).into(&page)
		for _, item := range page.Items {
			ids = append(ids, item.ID)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(ids) != len(all.Items) || ids[0] != all.Items[0].ID {
		t.Errorf("%d events in pages, %d at once", len(ids), len(all.Items))
	}
}
