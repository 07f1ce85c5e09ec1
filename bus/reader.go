package bus

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
)

// readerPending is how many events a reader may have fetched without
// acknowledging any.
const readerPending = 1000

// CreateReader makes the consumer that a reader of events is given: from the
// oldest event that the stream holds, of the reader's team (of all teams when it
// has none) and its filters. Doing so again changes nothing. A reader gets every
// event at least once, and again those that it had when the stream was made anew.
func CreateReader(ctx context.Context, conn *Conn, reader certctl.Reader) error {
	config := jetstream.ConsumerConfig{
		Durable: ReaderConsumer(reader.ID), Description: "certctl: a reader of events",
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: time.Minute, MaxDeliver: -1, MaxAckPending: readerPending,
		Metadata: map[string]string{metaSchema: strconv.Itoa(streamSchema)},
	}
	for _, filter := range reader.Filters {
		aggregate, event, _ := strings.Cut(filter, ".")
		config.FilterSubjects = append(config.FilterSubjects, SubjectEventsNamed(reader.Team, certctl.Aggregate(aggregate), certctl.EventName(event)))
	}
	if len(config.FilterSubjects) == 0 {
		config.FilterSubjects = []string{SubjectEvents(reader.Team, "")}
	}
	if _, err := conn.js.CreateOrUpdateConsumer(ctx, StreamEvent, config); err != nil {
		return conn.unreachable(err, "the consumer of this reader cannot be made")
	}
	return nil
}

// DeleteReader removes the consumer of a reader; without one there is nothing to
// do.
func DeleteReader(ctx context.Context, conn *Conn, reader certctl.ID) error {
	err := conn.js.DeleteConsumer(ctx, StreamEvent, ReaderConsumer(reader))
	if err == nil || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return conn.unreachable(err, "the consumer of this reader cannot be removed")
}
