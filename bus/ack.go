package bus

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
)

// This file is the only one that acknowledges anything.

// errHung is of a call that did not return at its deadline.
var errHung = errors.New("the handler did not return at its deadline")

// panicError is of a call that panicked.
type panicError struct {
	value any
	stack []byte
}

func newPanicError(value any) *panicError { return &panicError{value: value, stack: debug.Stack()} }

func (e *panicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.value) }

// delivery is one hint as it came, until it is settled.
type delivery struct {
	msg  jetstream.Msg
	meta *jetstream.MsgMetadata
	hint certctl.Hint
	err  error // why the hint cannot be read
}

// tries is which delivery of its message this is, from 1.
func (d *delivery) tries() uint64 { return d.meta.NumDelivered }

// process settles messages: what can be read goes to the handler, fresh ones
// merged, others alone, so that a poisonous hint takes no other with it.
func (l *lane) process(life context.Context, messages []jetstream.Msg) {
	lease := newLease(l.router.ackWait / 3)
	defer lease.end()
	var fresh, alone []*delivery
	for _, m := range messages {
		d := l.take(m)
		if d == nil {
			continue
		}
		lease.add(d)
		switch {
		case d.err != nil || d.tries() > maxTries:
			l.settleBad(life, d, lease)
		case d.tries() == 1:
			fresh = append(fresh, d)
		default:
			alone = append(alone, d)
		}
	}
	for _, group := range merge(fresh, l.handler.o.Batch) {
		l.handle(life, group, lease)
	}
	for _, d := range alone {
		l.handle(life, []*delivery{d}, lease)
	}
}

// take reads a message; nil for one that JetStream did not deliver.
func (l *lane) take(m jetstream.Msg) *delivery {
	meta, err := m.Metadata()
	if err != nil {
		l.log.Warn().Err(err).Msg("a message without delivery data was dropped")
		return nil
	}
	d := &delivery{msg: m, meta: meta}
	d.hint, d.err = readHint(m.Subject(), m.Headers(), m.Data())
	return d
}

// merge puts deliveries into groups of at most limit ids; one that is larger by
// itself is a group.
func merge(all []*delivery, limit int) [][]*delivery {
	var groups [][]*delivery
	count := 0
	for _, d := range all {
		if n := len(groups); n > 0 && count+len(d.hint.IDs) <= limit && limit > 1 {
			groups[n-1] = append(groups[n-1], d)
			count += len(d.hint.IDs)
			continue
		}
		groups = append(groups, []*delivery{d})
		count = len(d.hint.IDs)
	}
	return groups
}

// handle calls the handler once for a group and settles each delivery of it.
func (l *lane) handle(life context.Context, group []*delivery, lease *lease) {
	hint := certctl.Hint{Verb: l.work.verb, Lane: l.work.lane}
	var ids idSet
	for _, d := range group {
		for _, id := range d.hint.IDs {
			ids.add(id)
		}
	}
	hint.IDs = ids.list
	began := l.router.now()
	err := l.invoke(life, hint)
	var outcome Outcome
	for _, d := range group {
		lease.release(d)
		outcome = l.settle(d, err)
	}
	l.router.o.Done(l.work.verb, outcome, l.router.now().Sub(began))
	l.report(hint, outcome, err)
}

// report logs an outcome that somebody should know of.
func (l *lane) report(hint certctl.Hint, outcome Outcome, err error) {
	var crash *panicError
	switch {
	case errors.As(err, &crash):
		l.log.Error().Stringers("ids", stringers(hint.IDs)).Str("stack", string(crash.stack)).Err(err).Msg("handler panicked")
	case outcome == OutcomeHung:
		l.log.Error().Stringers("ids", stringers(hint.IDs)).Dur("deadline", l.handler.o.Deadline).Msg("handler hangs: it is given up")
	case err != nil:
		l.log.Info().Err(err).Int("ids", len(hint.IDs)).Str("outcome", string(outcome)).Msg("hint not done")
	}
}

// settle acknowledges a delivery according to the outcome of its handler.
func (l *lane) settle(d *delivery, err error) Outcome {
	var crash *panicError
	var discard *discardError
	switch {
	case err == nil:
		l.sent(d.msg.Ack())
		return OutcomeDone
	case errors.As(err, &discard):
		l.sent(d.msg.Term())
		return OutcomeDiscard
	case errors.As(err, &crash):
		l.sent(d.msg.NakWithDelay(backOff(d.tries())))
		return OutcomePanic
	case errors.Is(err, errHung):
		l.sent(d.msg.NakWithDelay(MaxRetry))
		return OutcomeHung
	case d.tries() >= maxTries:
		// The row is still due: the dispatcher gives the hint again. An error
		// that a handler has seen is no poison.
		l.sent(d.msg.Ack())
		return OutcomeDropped
	}
	l.sent(d.msg.NakWithDelay(retryAfter(err)))
	return OutcomeRetry
}

// backOff returns the pause after delivery n that ended in a panic.
func backOff(n uint64) time.Duration {
	return min(100*time.Millisecond<<min(2*(n-1), 10), MaxRetry)
}

// settleBad settles a delivery that no handler gets. A kind or version that is
// not known here is left for a newer process, for as long as poison is; a
// malformed body of a known one and what was delivered too often are recorded and
// ended.
func (l *lane) settleBad(ctx context.Context, d *delivery, lease *lease) {
	defer lease.release(d)
	unknown := errors.Is(d.err, errUnknownKind)
	if unknown && d.tries() <= maxTries {
		l.sent(d.msg.NakWithDelay(MaxRetry))
		l.router.o.Done(l.work.verb, OutcomeUnknown, 0)
		return
	}
	reason := fmt.Sprintf("delivered %d times without an outcome", d.tries()-1)
	if d.err != nil {
		reason = d.err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, l.handler.o.Deadline)
	defer cancel()
	if err := l.router.o.DeadLetters.RecordDeadLetter(ctx, l.letter(d, reason)); err != nil {
		l.log.Error().Err(err).Str("reason", reason).Msg("a dead letter cannot be recorded now")
		l.sent(d.msg.NakWithDelay(MaxRetry))
		return
	}
	l.sent(d.msg.Term())
	l.log.Error().Stringers("ids", stringers(d.hint.IDs)).Str("reason", reason).Msg("hint given up as a dead letter")
	l.router.o.Done(l.work.verb, OutcomeDead, 0)
}

// letter returns the dead letter of a delivery. Its id is made of what names the
// message, so that recording it again, since the end did not reach the broker,
// changes nothing.
func (l *lane) letter(d *delivery, reason string) certctl.DeadLetter {
	name := binary.BigEndian.AppendUint64(nil, d.meta.Sequence.Stream)
	digest := sha256.Sum256(binary.BigEndian.AppendUint64(name, uint64(d.meta.Timestamp.UnixNano())))
	id := certctl.FirstIDAt(d.meta.Timestamp)
	copy(id[9:], digest[:])
	return certctl.DeadLetter{
		ID: id, Verb: l.work.verb, Lane: l.work.lane, IDs: slices.Clone(d.hint.IDs), Reason: reason,
		Message: slices.Clone(d.msg.Data()), At: l.router.now().UTC(),
	}
}

// sent logs an acknowledgement that could not be sent: the message comes again.
func (l *lane) sent(err error) {
	if err != nil {
		l.log.Debug().Err(err).Msg("an acknowledgement was not sent")
	}
}

func stringers(ids []certctl.ID) []fmt.Stringer {
	list := make([]fmt.Stringer, 0, min(len(ids), 10)) // the rest is in the letter
	for _, id := range ids[:min(len(ids), 10)] {
		list = append(list, id)
	}
	return list
}

// lease tells the broker that deliveries are being worked on, until each is
// released.
type lease struct {
	mu   sync.Mutex // guards held
	held map[*delivery]struct{}
	stop chan struct{}
	done chan struct{}
}

func newLease(every time.Duration) *lease {
	l := &lease{held: make(map[*delivery]struct{}), stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-ticker.C:
				l.extend()
			}
		}
	}()
	return l
}

func (l *lease) extend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for d := range l.held {
		_ = d.msg.InProgress() // without a connection the lease ends, as it should
	}
}

func (l *lease) add(d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[d] = struct{}{}
}

func (l *lease) release(d *delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, d)
}

func (l *lease) end() {
	close(l.stop)
	<-l.done
}
