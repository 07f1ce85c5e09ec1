package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// EventStore is the audit log, and who may read it from the bus.
type EventStore interface {
	ListEvents(ctx context.Context, actor certctl.Actor, filter certctl.EventFilter) ([]certctl.Event, error)
	CreateReader(ctx context.Context, actor certctl.Actor, reader certctl.Reader) (certctl.Reader, error)
	ListReaders(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.Reader], error)
	RevokeReader(ctx context.Context, actor certctl.Actor, ref string) error
}

func eventOf(e certctl.Event) gen.Event {
	return gen.Event{
		ID: e.ID, Time: e.Time, Team: e.Team, Aggregate: string(e.Aggregate), Object: e.Object, Sequence: e.Sequence,
		Name: string(e.Name), Actor: e.Actor, ActorKind: string(e.ActorKind), Outcome: e.Outcome, RequestID: e.RequestID,
		Data: fields(e.Data),
	}
}

// ListEvents answers with a page of the audit log, or with a live stream.
func (s *Server) ListEvents(ctx context.Context, r gen.ListEventsRequestObject) (gen.ListEventsResponseObject, error) {
	p := r.Params
	filter := certctl.EventFilter{
		After: p.After, Team: p.Team, Aggregate: certctl.Aggregate(p.Aggregate), Object: p.Object, Name: certctl.EventName(p.Name),
		Actor: p.Actor, Since: p.Since, Until: p.Until, Limit: p.Limit, Newest: p.Newest,
	}
	if strings.Contains(requestOf(ctx).accept, "text/event-stream") {
		return s.stream(ctx, filter, p.LastEventID)
	}
	events, err := s.store.ListEvents(ctx, actorOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	list := gen.EventList{Items: each(events, eventOf)}
	if limit := max(p.Limit, 1); len(events) == limit {
		list.NextCursor = events[len(events)-1].ID.String()
	}
	return gen.ListEvents200JSONResponse(list), nil
}

// stream prepares a live stream: whoever may not list may not listen.
func (s *Server) stream(ctx context.Context, filter certctl.EventFilter, last certctl.ID) (gen.ListEventsResponseObject, error) {
	if filter.Newest || !filter.Until.IsZero() {
		return nil, certctl.InvalidField("?newest", "a stream goes forward and does not end: newest and until are for lists")
	}
	probe := filter
	probe.Limit = 1
	if _, err := s.store.ListEvents(ctx, actorOf(ctx), probe); err != nil {
		return nil, err
	}
	if !last.IsZero() {
		filter.After = last
	}
	stream := &eventStream{server: s, ctx: ctx, filter: filter, seen: map[certctl.ID]bool{}}
	if filter.After.IsZero() && filter.Since.IsZero() {
		stream.filter.After, stream.fresh = certctl.FirstIDAt(s.Now()), true
	}
	stream.began = stream.filter.After
	return stream, nil
}

const (
	streamPage      = 500
	streamHeartbeat = 15 * time.Second
	streamRetry     = 2 * time.Second // what clients are told to wait before they connect again
	streamPoll      = 10 * time.Second
	// streamOverlap is how far before the last event a replay begins. Events get
	// their ids when their transactions begin and are seen when these commit: one
	// with a lower id may have come later.
	streamOverlap = 10 * time.Second
	streamSeen    = 10000
)

// eventStream is one answer of server-sent events (WHATWG HTML section 9.2):
// what the table holds after the client's last event, then what happens.
type eventStream struct {
	server *Server
	ctx    context.Context //nolint:containedctx // the response outlives the call that made it
	filter certctl.EventFilter
	seen   map[certctl.ID]bool // sent on this connection
	began  certctl.ID          // after which event it begins
	fresh  bool                // the client has named none: nothing from before is for it
	out    http.ResponseWriter
	flush  http.Flusher
}

// VisitListEventsResponse sends events until the client goes away.
func (e *eventStream) VisitListEventsResponse(w http.ResponseWriter) error {
	flush, ok := w.(http.Flusher)
	if !ok {
		return certctl.Errorf(certctl.Internal, "this connection cannot stream")
	}
	e.out, e.flush = w, flush
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // a proxy in between must not hold events back
	w.WriteHeader(http.StatusOK)
	if err := e.write("retry: " + strconv.FormatInt(streamRetry.Milliseconds(), 10) + "\n\n"); err != nil {
		return nil //nolint:nilerr // the client is gone
	}
	for e.ctx.Err() == nil {
		if err := e.follow(); err != nil {
			return nil //nolint:nilerr // the client is gone, or will come back with its last event
		}
	}
	return nil
}

// follow replays what was missed and then sends what happens, until the client
// was too slow.
func (e *eventStream) follow() error {
	live, stop := e.server.Feed.Subscribe()
	defer stop()
	if err := e.replay(); err != nil {
		return err
	}
	heartbeat, poll := time.NewTicker(streamHeartbeat), time.NewTicker(streamPoll)
	defer heartbeat.Stop()
	defer poll.Stop()
	for {
		select {
		case event, open := <-live:
			if !open {
				return nil
			}
			if e.mine(event) {
				if err := e.send(event); err != nil {
					return err
				}
			}
		case <-poll.C: // the bus may be away, and another process has told it
			if err := e.replay(); err != nil {
				return err
			}
		case <-heartbeat.C:
			if err := e.write(": \n\n"); err != nil {
				return err
			}
		case <-e.ctx.Done():
			return e.ctx.Err()
		}
	}
}

// replay sends what the table holds since a little before the last event that
// was sent, or that the client has named; it may have seen some of these.
func (e *eventStream) replay() error {
	page := e.filter
	page.Limit = streamPage
	if !page.After.IsZero() {
		page.After = certctl.FirstIDAt(page.After.Time().Add(-streamOverlap))
	}
	fresh := e.fresh
	e.fresh = false
	for {
		events, err := e.server.store.ListEvents(e.ctx, actorOf(e.ctx), page)
		if err != nil {
			return err
		}
		for _, event := range events {
			page.After = event.ID
			if fresh && !idLess(e.began, event.ID) || event.ID == e.began {
				e.seen[event.ID] = true // it was before: only what comes late is news
				continue
			}
			if err := e.send(event); err != nil {
				return err
			}
		}
		if len(events) < streamPage {
			return nil
		}
	}
}

// mine is the filter of the list, for an event that came by itself.
func (e *eventStream) mine(event certctl.Event) bool {
	f, p := e.filter, actorOf(e.ctx).Principal
	audit := certctl.Object{Kind: certctl.ObjectEvent, Team: p.Team}
	switch {
	case p.Team != "" && event.Team != p.Team, f.Team != "" && event.Team != f.Team:
		return false
	case event.Aggregate == certctl.AggregateAccess && !certctl.Allowed(p, certctl.VerbAudit, audit):
		return false
	}
	return (f.Aggregate == "" || f.Aggregate == event.Aggregate) && (f.Object.IsZero() || f.Object == event.Object) &&
		(f.Name == "" || f.Name == event.Name) && (f.Actor == "" || f.Actor == event.Actor) &&
		(f.Since.IsZero() || !event.Time.Before(f.Since))
}

// send writes one event, once.
func (e *eventStream) send(event certctl.Event) error {
	if e.seen[event.ID] {
		return nil
	}
	if len(e.seen) > streamSeen {
		clear(e.seen)
	}
	e.seen[event.ID] = true
	if idLess(e.filter.After, event.ID) {
		e.filter.After = event.ID
	}
	body, err := json.Marshal(eventOf(event))
	if err != nil {
		return err
	}
	return e.write("id: " + event.ID.String() + "\nevent: " + string(event.Name) + "\ndata: " + string(body) + "\n\n")
}

func (e *eventStream) write(text string) error {
	if _, err := e.out.Write([]byte(text)); err != nil {
		return err
	}
	e.flush.Flush()
	return nil
}

func idLess(a, b certctl.ID) bool { return string(a[:]) < string(b[:]) }
