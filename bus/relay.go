package bus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/certctl/certctl"
)

// EventLog is the table of events, which is the record; the stream is its feed.
type EventLog interface {
	// UnpublishedEvents returns the oldest events that are not marked as published
	// nor set aside and have an age, at most limit.
	UnpublishedEvents(ctx context.Context, age time.Duration, limit int) ([]certctl.Event, error)
	// MarkPublished takes events off that list.
	MarkPublished(ctx context.Context, ids []certctl.ID) error
	// SetAsideEvent takes one off that cannot be published, and says so to people.
	SetAsideEvent(ctx context.Context, id certctl.ID, reason string) error
	// EventsSince returns all events after one, in the order of their ids, at most
	// limit.
	EventsSince(ctx context.Context, after certctl.ID, limit int) ([]certctl.Event, error)
}

// How events are published. A batch opens a staging store at the broker: with
// few events that costs more than it saves.
const (
	singlyMost = 16
	batchMost  = 500
	relayEvery = 5 * time.Second
	// leftoverAge is how old an event is before others than the process that
	// committed it publish it. A batch with one event that the stream has already is
	// refused as a whole, and then each of its events costs a sync.
	leftoverAge  = 10 * time.Second
	batchTimeout = 20 * time.Second
)

// Relay publishes events, at least once each and with the event's id as the
// message's, so that the stream stores what comes twice within its window once.
type Relay struct {
	conn  *Conn
	table EventLog
	log   zerolog.Logger
	every time.Duration
	now   func() time.Time

	batching sync.Mutex // one batch in flight per process: the broker takes few
}

// NewRelay returns the relay of a process.
func NewRelay(conn *Conn, table EventLog, log zerolog.Logger) *Relay {
	return &Relay{conn: conn, table: table, log: log, every: relayEvery, now: time.Now}
}

// Run publishes what is left over: events whose process ended before it had told
// them, or had no broker to tell. It returns the error of ctx.
func (r *Relay) Run(ctx context.Context) error {
	declared, stop := r.conn.declared.listen()
	defer stop()
	for {
		more := false
		if r.conn.Connected() {
			published, aside, err := r.runOnce(ctx)
			more = err == nil && published+aside >= batchMost
			if err != nil && ctx.Err() == nil {
				r.log.Warn().Err(err).Int("published", published).Msg("leftover events cannot be published now")
			}
		}
		if more && ctx.Err() == nil {
			continue
		}
		timer := time.NewTimer(r.every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-declared:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// runOnce publishes the oldest leftovers and returns how many were published and
// how many set aside.
func (r *Relay) runOnce(ctx context.Context) (published, aside int, err error) {
	events, err := r.table.UnpublishedEvents(ctx, leftoverAge, batchMost)
	if err != nil {
		return 0, 0, err
	}
	return r.Publish(ctx, events)
}

// Publish publishes events, marks those that the stream has, and sets aside those
// that it will never take; the others are left to Run. The error says why there
// are others.
func (r *Relay) Publish(ctx context.Context, events []certctl.Event) (published, aside int, err error) {
	for chunk := range slices.Chunk(events, batchMost) {
		result := r.send(ctx, chunk)
		published, aside = published+len(result.sent), aside+len(result.refused)
		if err := r.record(ctx, result); err != nil {
			return published, aside, err
		}
		if result.err != nil {
			return published, aside, r.conn.unreachable(result.err, "events cannot be published")
		}
	}
	return published, aside, nil
}

// sending is what became of some events. What is in neither list is to be tried
// again; err says why.
type sending struct {
	sent    []certctl.ID
	refused map[certctl.ID]string
	err     error
}

// record tells the table.
func (r *Relay) record(ctx context.Context, result sending) error {
	var errs []error
	if len(result.sent) > 0 {
		errs = append(errs, r.table.MarkPublished(ctx, result.sent))
	}
	for id, reason := range result.refused {
		r.log.Error().Stringer("event", id).Str("reason", reason).Msg("event set aside: it cannot be published")
		errs = append(errs, r.table.SetAsideEvent(ctx, id, reason))
	}
	return errors.Join(errs...)
}

// send publishes at most batchMost events: many as a batch, few or what the batch
// was refused for one by one. A batch is refused as a whole, whatever is wrong:
// one event that is too large, or that is already there since the acknowledgement
// of an earlier batch was lost.
func (r *Relay) send(ctx context.Context, events []certctl.Event) sending {
	if len(events) > singlyMost {
		err := r.sendBatch(ctx, events)
		if err == nil {
			return sending{sent: ids(events)}
		}
		if isMissing(err) || ctx.Err() != nil || !r.conn.Connected() {
			return sending{err: err}
		}
		r.log.Info().Err(err).Int("events", len(events)).Msg("batch refused: publishing its events one by one")
	}
	return r.sendSingly(ctx, events)
}

// sendBatch stores all events or none. An event that cannot be encoded fails it.
func (r *Relay) sendBatch(ctx context.Context, events []certctl.Event) error {
	r.batching.Lock()
	defer r.batching.Unlock()
	messages := make([]*nats.Msg, len(events))
	for i, e := range events {
		m, err := eventMessage(e)
		if err != nil {
			return err
		}
		messages[i] = m
	}
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	_, err := jetstreamext.PublishMsgBatch(ctx, r.conn.js, messages)
	return err
}

// sendSingly publishes each event by itself, so that a bad one holds no other.
func (r *Relay) sendSingly(ctx context.Context, events []certctl.Event) sending {
	result := sending{refused: make(map[certctl.ID]string)}
	var messages []*nats.Msg
	var sent []certctl.ID
	for _, e := range events {
		m, err := eventMessage(e)
		if err == nil && m.Size() > messageMost {
			err = certctl.Errorf(certctl.Invalid, "the event has %d bytes, more than %d", m.Size(), messageMost)
		}
		if err != nil {
			result.refused[e.ID] = err.Error()
			continue
		}
		messages, sent = append(messages, m), append(sent, e.ID)
	}
	for i, err := range r.conn.publish(ctx, messages) {
		switch {
		case err == nil:
			result.sent = append(result.sent, sent[i])
		case isRefusal(err):
			result.refused[sent[i]] = err.Error()
		default:
			result.err = err
		}
	}
	return result
}

// isRefusal reports whether the broker will never take this message: it is the
// message's fault, not the state's.
func isRefusal(err error) bool {
	const messageExceedsMaximum jetstream.ErrorCode = 10054
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == messageExceedsMaximum {
		return true
	}
	return errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject)
}

func ids(events []certctl.Event) []certctl.ID {
	list := make([]certctl.ID, len(events))
	for i, e := range events {
		list[i] = e.ID
	}
	return list
}

// Fill publishes all events of the table that the stream would still hold, from
// the oldest on: for a stream that is new. Events that happen meanwhile are
// published by their processes, so readers order by an object's sequence.
func (r *Relay) Fill(ctx context.Context) error {
	after, filled := certctl.FirstIDAt(r.now().Add(-eventAge)), 0
	for {
		events, err := r.table.EventsSince(ctx, after, batchMost)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			r.log.Info().Int("events", filled).Msg("the event stream is filled")
			return nil
		}
		result := r.send(ctx, events)
		if result.err != nil {
			return r.conn.unreachable(result.err, "the event stream cannot be filled")
		}
		for id, reason := range result.refused {
			r.log.Error().Stringer("event", id).Str("reason", reason).Msg("event left out of the stream: it cannot be published")
		}
		filled += len(result.sent)
		after = events[len(events)-1].ID
	}
}
