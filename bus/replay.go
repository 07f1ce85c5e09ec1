package bus

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
)

// replayMost is how many events are handed over at a time.
const replayMost = 256

// Replay hands over, in the stream's order, the events that the stream holds and
// that were published at or after a moment, and returns when it has reached the
// end that the stream had at first. It reports whether there is a stream. Events
// that cannot be read here are left out. An error of take ends it.
func Replay(ctx context.Context, conn *Conn, since time.Time, take func([]certctl.Event) error) (found bool, err error) {
	stream, err := conn.js.Stream(ctx, StreamEvent)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	if err != nil {
		return false, conn.unreachable(err, "looking for the event stream")
	}
	last := stream.CachedInfo().State.LastSeq
	consumer, err := conn.js.CreateConsumer(ctx, StreamEvent, jetstream.ConsumerConfig{
		Description: "certctl: events since a backup", DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since,
		AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: feedIdle, MemoryStorage: true, Replicas: 1,
		FilterSubject: SubjectEvents("", ""),
	})
	if err != nil {
		return true, conn.unreachable(err, "reading the event stream")
	}
	return true, replay(ctx, conn, consumer, last, take)
}

// replay pulls until a message at or after last has come, or nothing is left.
func replay(ctx context.Context, conn *Conn, consumer jetstream.Consumer, last uint64, take func([]certctl.Event) error) error {
	for pending := consumer.CachedInfo().NumPending; pending > 0; {
		ctx, cancel := context.WithTimeout(ctx, pullExpiry)
		batch, err := consumer.Fetch(int(min(pending, replayMost)), jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(pullHeartbeat))
		if err != nil {
			cancel()
			return conn.unreachable(err, "reading the event stream")
		}
		var events []certctl.Event
		for m := range batch.Messages() {
			if e, err := readEvent(m.Subject(), m.Headers(), m.Data()); err == nil {
				events = append(events, e)
			}
			if meta, err := m.Metadata(); err == nil {
				if pending = meta.NumPending; meta.Sequence.Stream >= last {
					pending = 0
				}
			}
		}
		err = batch.Error()
		cancel()
		if err != nil {
			return conn.unreachable(err, "reading the event stream")
		}
		if len(events) > 0 {
			if err := take(events); err != nil {
				return err
			}
		}
	}
	return nil
}
