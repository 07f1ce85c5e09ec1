package bus

import (
	"context"
	"errors"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
)

// Publisher gives hints. It is safe for concurrent use.
type Publisher struct{ conn *Conn }

// NewPublisher returns a publisher on a connection.
func NewPublisher(conn *Conn) *Publisher { return &Publisher{conn: conn} }

// Publish gives hints, cut to the size that their verb has, and returns when
// the broker has them. On an error some may be missing; whoever asks for them
// again later does no harm. Bells are not hints: see Bells.
func (p *Publisher) Publish(ctx context.Context, hints []certctl.Hint) error {
	var messages []*nats.Msg
	for _, hint := range hints {
		for ids := range slices.Chunk(hint.IDs, hint.Verb.MaxIDs()) {
			m, err := hintMessage(certctl.Hint{Verb: hint.Verb, Lane: hint.Lane, IDs: ids})
			if err != nil {
				return err
			}
			m.Header.Set(jetstream.ExpectedStreamHeader, StreamIntent)
			messages = append(messages, m)
		}
	}
	var errs []error
	for chunk := range slices.Chunk(messages, asyncPending/4) {
		for _, err := range p.conn.publish(ctx, chunk) {
			if err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) > 0 {
			break // the next ones would wait as long
		}
	}
	if err := errors.Join(errs...); err != nil {
		return p.conn.unreachable(err, "hints cannot be given")
	}
	return nil
}

// publish sends messages to their streams at once and returns for each the error
// that the broker gave, in the order of messages. A message that the stream has
// already counts as sent.
func (c *Conn) publish(ctx context.Context, messages []*nats.Msg) []error {
	errs := make([]error, len(messages))
	futures := make([]jetstream.PubAckFuture, len(messages))
	for i, m := range messages {
		// Missing streams are the supervisor's; waiting for one here would hold up
		// the others.
		futures[i], errs[i] = c.js.PublishMsgAsync(m, jetstream.WithRetryAttempts(0))
	}
	for i, future := range futures {
		if future == nil {
			continue
		}
		select {
		case <-future.Ok():
		case errs[i] = <-future.Err():
		case <-ctx.Done():
			errs[i] = context.Cause(ctx)
		}
	}
	return errs
}
