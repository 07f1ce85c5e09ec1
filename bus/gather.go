package bus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl"
)

// Bounds of gathering. What comes within gatherFor is answered by one call of at
// most gatherMost; gatherCalls calls run at a time; when more than gatherWaiting
// requests wait, new ones are asked to come back.
const (
	gatherMost    = 256
	gatherFor     = 2 * time.Millisecond
	gatherCalls   = 4
	gatherWaiting = 4096
	gatherBuffer  = 8192 // requests that the library holds for us
	gatherLimit   = 20 * time.Second
	retryLeast    = 2 * time.Second // of what an overloaded server asks for
	retrySpread   = 20 * time.Second
)

// request is one statement of an agent that waits for its answer.
type request struct {
	msg       *nats.Msg
	statement certctl.Statement
}

// gatherer answers the requests of agents of one kind.
type gatherer struct {
	conn *Conn
	kind string // askMailbox or askReport
	// answer returns a message for each statement, in their order.
	answer func(ctx context.Context, statements []certctl.Statement) []*nats.Msg
	// busy returns the message for whoever has to come back.
	busy func(after time.Duration) (*nats.Msg, error)

	waiting []request
	calls   sync.WaitGroup
	free    chan struct{} // one value for each call that may begin
}

// run answers until ctx ends, then finishes what it has begun and returns the
// error of ctx. Requests that wait get no answer: their agents ask again.
func (g *gatherer) run(ctx context.Context) error {
	incoming := make(chan *nats.Msg, gatherBuffer)
	sub, err := g.conn.nc.ChanQueueSubscribe(subjectAsks(g.kind), g.kind, incoming)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "answering %s requests", g.kind)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection has ended
	g.free = make(chan struct{}, gatherCalls)
	for range gatherCalls {
		g.free <- struct{}{}
	}
	defer g.calls.Wait()
	timer := time.NewTimer(gatherFor)
	defer timer.Stop()
	ripe := false // the oldest that waits has waited long enough
	for {
		var free <-chan struct{}
		if ripe || len(g.waiting) >= gatherMost {
			free = g.free
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.conn.closed:
			return errClosed()
		case m := <-incoming:
			if g.take(m) && len(g.waiting) == 1 {
				timer.Reset(gatherFor)
			}
		case <-timer.C:
			ripe = len(g.waiting) > 0
		case <-free:
			g.begin(ctx)
			if ripe = false; len(g.waiting) > 0 {
				timer.Reset(gatherFor)
			}
		}
	}
}

// take puts a request among those that wait, or refuses it, and reports which.
func (g *gatherer) take(m *nats.Msg) bool {
	if !strings.HasPrefix(m.Reply, prefixReply) {
		// Not through the export: whoever sent this chose where the answer goes.
		g.conn.log.Warn().Str("subject", m.Subject).Msg("a request that did not come through the export gets no answer")
		return false
	}
	s, err := readRequest(m, g.kind)
	if err != nil {
		g.conn.respond(m, nil, err)
		return false
	}
	if len(g.waiting) >= gatherWaiting {
		busy, err := g.busy(retryLeast + rand.N(retrySpread))
		g.conn.respond(m, busy, err)
		return false
	}
	g.waiting = append(g.waiting, request{msg: m, statement: s})
	return true
}

// readRequest decodes a request of a kind. The agent whose subject it came on
// must be the one that it is from: the broker lets an agent publish on its own
// subjects only.
func readRequest(m *nats.Msg, kind string) (certctl.Statement, error) {
	agent, found, ok := ParseAsk(m.Subject)
	if !ok || found != kind {
		return certctl.Statement{}, certctl.Errorf(certctl.Invalid, "this is not the subject of a %s request", kind)
	}
	if len(m.Data) > agentPayload {
		return certctl.Statement{}, certctl.Errorf(certctl.Invalid, "this request has %d bytes, more than %d", len(m.Data), agentPayload)
	}
	var s certctl.Statement
	if err := readMessage(m.Header, m.Data, kindStatement, &s); err != nil {
		return certctl.Statement{}, err
	}
	if s.Agent != agent {
		return certctl.Statement{}, certctl.Errorf(certctl.Denied, "this statement is of another agent than the subject's")
	}
	return s, nil
}

// begin answers the oldest that wait, in a goroutine of its own.
func (g *gatherer) begin(ctx context.Context) {
	n := min(len(g.waiting), gatherMost)
	batch := append([]request(nil), g.waiting[:n]...)
	g.waiting = append(g.waiting[:0:0], g.waiting[n:]...)
	g.calls.Go(func() {
		defer func() { g.free <- struct{}{} }()
		// What was begun is finished also when we stop.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gatherLimit)
		defer cancel()
		statements := make([]certctl.Statement, len(batch))
		for i, r := range batch {
			statements[i] = r.statement
		}
		answers, err := g.call(ctx, statements)
		for i, r := range batch {
			var answer *nats.Msg
			if err == nil {
				answer = answers[i]
			}
			g.conn.respond(r.msg, answer, err)
		}
	})
}

// call turns a panic, and answers that do not match, into an error.
func (g *gatherer) call(ctx context.Context, statements []certctl.Statement) (answers []*nats.Msg, err error) {
	defer func() {
		if value := recover(); value != nil {
			g.conn.log.Error().Str("stack", string(debug.Stack())).Msg(fmt.Sprintf("answering %s requests panicked: %v", g.kind, value))
			err = certctl.Errorf(certctl.Internal, "the handler panicked")
		}
	}()
	answers = g.answer(ctx, statements)
	if len(answers) != len(statements) {
		return nil, certctl.Errorf(certctl.Internal, "%d answers to %d %s requests", len(answers), len(statements), g.kind)
	}
	return answers, nil
}

// respond sends an answer, or the error that there is instead of one.
func (c *Conn) respond(m *nats.Msg, answer *nats.Msg, err error) {
	if err == nil && answer == nil {
		err = certctl.Errorf(certctl.Internal, "there is no answer")
	}
	if err != nil {
		if answer, err = errorMessage(err); err != nil {
			c.log.Error().Err(err).Msg("an error cannot be encoded")
			return
		}
	}
	answer.Subject = m.Reply
	if err := c.nc.PublishMsg(answer); err != nil {
		c.log.Warn().Err(err).Int("bytes", len(answer.Data)).Msg("an answer cannot be sent; it will be asked for again")
	}
}
