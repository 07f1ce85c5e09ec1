package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
)

// How a feed keeps its place when its consumer is lost.
const (
	feedMost    = 256
	feedStale   = 10 * time.Minute // older than what was told last: not news but a refill
	feedIdle    = time.Minute      // the broker removes a consumer that nobody pulls from
	feedOverlap = time.Minute      // of what is told again
	feedBefore  = 2 * time.Second  // of what is told that was published before the beginning
)

// Follow calls fn with each event that is published from now on, and in the last
// two seconds, in the stream's order, until ctx ends, whose error it returns: what
// happens while it begins is not lost to one who has looked before. Events come at least once: after
// the broker was away, those of its last minute come again. An event that cannot
// be read here is left out. fn should not block for long; what it missed is in
// the event table.
func Follow(ctx context.Context, conn *Conn, fn func(certctl.Event)) error {
	declared, stop := conn.declared.listen()
	defer stop()
	f := &feed{conn: conn, fn: fn}
	for ctx.Err() == nil {
		err := f.pull(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		f.consumer = nil
		conn.log.Debug().Err(err).Msg("events cannot be followed now")
		timer := time.NewTimer(pullAgain)
		select {
		case <-ctx.Done():
		case <-declared:
		case <-timer.C:
		}
		timer.Stop()
	}
	return ctx.Err()
}

// feed is the state of one Follow.
type feed struct {
	conn     *Conn
	fn       func(certctl.Event)
	consumer jetstream.Consumer
	last     time.Time // of the newest event told; before the first, when we began by the broker's clock
	begun    bool      // there was a consumer
	again    bool      // the consumer is not the first
}

// pull tells the events of one request.
func (f *feed) pull(ctx context.Context) error {
	if !f.conn.Connected() {
		return errors.New("not connected")
	}
	ctx, cancel := context.WithTimeout(ctx, pullExpiry)
	defer cancel()
	if err := f.declare(ctx); err != nil {
		return err
	}
	batch, err := f.consumer.Fetch(feedMost, jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(pullHeartbeat))
	if err != nil {
		return f.conn.unreachable(err, "pulling events")
	}
	for m := range batch.Messages() {
		e, err := readEvent(m.Subject(), m.Headers(), m.Data())
		// A stream that was made anew is filled with all that was before.
		if err != nil || f.again && e.Time.Before(f.last.Add(-feedStale)) {
			continue
		}
		if f.last.Before(e.Time) {
			f.last = e.Time
		}
		f.fn(e)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return f.conn.unreachable(err, "pulling events")
	}
	return nil
}

// declare makes a consumer of our own: from now on, or from a little before the
// last event told.
func (f *feed) declare(ctx context.Context) error {
	if f.consumer != nil {
		return nil
	}
	if f.last.IsZero() {
		now, err := f.brokerTime(ctx)
		if err != nil {
			return err
		}
		f.last = now
	} else if f.begun {
		f.again = true
	}
	from := f.last.Add(-feedBefore)
	if f.again {
		from = f.last.Add(-feedOverlap)
	}
	config := jetstream.ConsumerConfig{
		Description: "certctl: a process that follows events", DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
		AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: feedIdle, MemoryStorage: true, Replicas: 1,
		FilterSubject: SubjectEvents("", ""),
	}
	consumer, err := f.conn.js.CreateConsumer(ctx, StreamEvent, config)
	if err != nil {
		return f.conn.unreachable(err, "following events")
	}
	f.consumer, f.begun = consumer, true
	return nil
}

// brokerTime is what the broker's clock shows, which ours may be ahead of: to begin
// at a moment that it has not come to is to hear nothing until then.
func (f *feed) brokerTime(ctx context.Context) (time.Time, error) {
	stream, err := f.conn.js.Stream(ctx, StreamEvent)
	if err != nil {
		return time.Time{}, f.conn.unreachable(err, "following events")
	}
	return stream.CachedInfo().TimeStamp, nil
}
