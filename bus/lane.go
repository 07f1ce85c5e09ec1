package bus

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
)

// Times of a pull. A broker that forgets a pull, since it was restarted, is
// noticed after two heartbeats.
const (
	pullExpiry    = 5 * time.Second
	pullHeartbeat = 2 * time.Second
	pullAgain     = 500 * time.Millisecond // after an error
)

// lane pulls the hints of one verb in one lane. It asks for no more than it can
// begin at once, so that nothing waits here that another process could do.
type lane struct {
	router   *Router
	work     work
	handler  handler
	log      zerolog.Logger
	free     chan struct{} // one value for each call that may begin
	consumer jetstream.Consumer
	running  sync.WaitGroup
}

func newLane(r *Router, w work) *lane {
	l := &lane{
		router: r, work: w, handler: r.handlers[w.verb],
		log: r.o.Log.With().Str("verb", string(w.verb)).Str("lane", w.lane).Logger(),
	}
	l.free = make(chan struct{}, l.handler.o.Concurrency)
	for range l.handler.o.Concurrency {
		l.free <- struct{}{}
	}
	return l
}

// run pulls until ctx ends and returns when no call is under way. Calls live in
// life.
func (l *lane) run(ctx, life context.Context) {
	declared, stop := l.router.conn.declared.listen()
	defer stop()
	for ctx.Err() == nil {
		err := l.pull(ctx, life)
		if err == nil || ctx.Err() != nil {
			continue
		}
		l.consumer = nil
		l.log.Debug().Err(err).Msg("hints cannot be pulled now")
		timer := time.NewTimer(pullAgain)
		select {
		case <-ctx.Done():
		case <-declared:
		case <-timer.C:
		}
		timer.Stop()
	}
	l.running.Wait()
}

// pull asks for hints once and begins what comes.
func (l *lane) pull(ctx, life context.Context) error {
	slots := l.acquire(ctx)
	if slots == 0 {
		return nil
	}
	defer func() {
		for range slots {
			l.free <- struct{}{}
		}
	}()
	if !l.router.conn.Connected() {
		return errors.New("not connected")
	}
	if err := l.declare(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pullExpiry)
	defer cancel()
	batch, err := l.consumer.Fetch(slots, jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(pullHeartbeat))
	if err != nil {
		return l.missing(err)
	}
	for m := range batch.Messages() {
		messages := append([]jetstream.Msg{m}, l.more(m)...)
		slots--
		l.running.Go(func() {
			defer func() { l.free <- struct{}{} }()
			l.process(life, messages)
		})
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return l.missing(err)
	}
	return nil
}

// acquire takes a free slot, and all others that are free unless hints are
// merged: then what waits fits into one call. It returns 0 when ctx has ended.
func (l *lane) acquire(ctx context.Context) int {
	select {
	case <-ctx.Done():
		return 0
	case <-l.free:
	}
	n := 1
	for l.handler.o.Batch == 1 {
		select {
		case <-l.free:
			n++
			continue
		default:
		}
		break
	}
	return n
}

// more fetches hints that wait behind the first, as far as they are likely to fit
// into the same call.
func (l *lane) more(first jetstream.Msg) []jetstream.Msg {
	if l.handler.o.Batch == 1 {
		return nil
	}
	hint, err := readHint(first.Subject(), first.Headers(), first.Data())
	if err != nil {
		return nil
	}
	n := l.handler.o.Batch/max(len(hint.IDs), 1) - 1
	if n < 1 {
		return nil
	}
	batch, err := l.consumer.FetchNoWait(n)
	if err != nil {
		return nil // the next pull meets the same error
	}
	var messages []jetstream.Msg
	for m := range batch.Messages() {
		messages = append(messages, m)
	}
	return messages
}

// declare makes the consumer where there is none yet. One that a newer release
// has made stays as it is.
func (l *lane) declare(ctx context.Context) error {
	if l.consumer != nil {
		return nil
	}
	want := hintConsumer(l.work.verb, l.work.lane, l.router.ackWait)
	consumer, err := l.router.conn.js.Consumer(ctx, StreamIntent, want.Durable)
	if err == nil && schemaOf(consumer.CachedInfo().Config.Metadata) > streamSchema {
		l.consumer = consumer
		return nil
	}
	if err == nil || errors.Is(err, jetstream.ErrConsumerNotFound) {
		consumer, err = l.router.conn.js.CreateOrUpdateConsumer(ctx, StreamIntent, want)
	}
	if err != nil {
		return l.missing(err)
	}
	l.consumer = consumer
	return nil
}

func (l *lane) missing(err error) error { return l.router.conn.unreachable(err, "pulling hints") }

// invoke calls the handler and returns its outcome. A call that does not return
// at its deadline is given up: its context has ended, its slot is free, and what
// it still does finds that it has lost its lease.
func (l *lane) invoke(life context.Context, hint certctl.Hint) (err error) {
	ctx, cancel := context.WithTimeout(life, l.handler.o.Deadline)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.call(ctx, hint) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(l.router.grace)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errHung
	}
}

// call turns a panic into an error.
func (l *lane) call(ctx context.Context, hint certctl.Hint) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = newPanicError(value)
		}
	}()
	return l.handler.fn(ctx, hint)
}
