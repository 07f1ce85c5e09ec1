package bus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/certctl/certctl"
)

// mailboxMost is how many bytes of commands one answer may hold. It fits into a
// broker's default limit of 1 MiB; the rest is asked for at once.
const mailboxMost = 768 << 10

// MailboxReply is the answer to one agent, or why there is none.
type MailboxReply struct {
	Mailbox certctl.Mailbox
	Err     error
}

// ServeMailbox answers agents that ask for work, until ctx ends, whose error it
// returns; roles that serve share the requests. answer gets what came within a
// few milliseconds at once, and returns a reply for each statement in their
// order. The statements' signatures are not verified yet.
//
// Answers that are too large for the bus lose commands at their end and say so.
func ServeMailbox(ctx context.Context, conn *Conn, answer func(context.Context, []certctl.Statement) []MailboxReply) error {
	g := &gatherer{conn: conn, kind: askMailbox}
	g.answer = func(ctx context.Context, statements []certctl.Statement) []*nats.Msg {
		replies := answer(ctx, statements)
		messages := make([]*nats.Msg, len(replies))
		for i, reply := range replies {
			messages[i] = encode(conn, kindMailbox, fit(reply.Mailbox), reply.Err)
		}
		return messages
	}
	g.busy = func(after time.Duration) (*nats.Msg, error) {
		return nil, &certctl.Error{Code: certctl.RateLimited, Message: "the server has too many requests", RetryAfter: after}
	}
	return g.run(ctx)
}

// fit cuts commands off the end of a mailbox until it fits. What is left is
// complete: a target comes before the commands that need it.
func fit(box certctl.Mailbox) certctl.Mailbox {
	size := 0
	for i, command := range box.Commands {
		size += (len(command.Body)+len(command.Signature))*4/3 + 512
		if size > mailboxMost && i > 0 {
			box.Commands, box.More = box.Commands[:i], true
			return box
		}
	}
	return box
}

// ServeReports takes the reports of agents as ServeMailbox takes their requests.
// answer returns after the commit that records the reports.
func ServeReports(ctx context.Context, conn *Conn, answer func(context.Context, []certctl.Statement) []certctl.ReportAnswer) error {
	return reportGatherer(conn, answer).run(ctx)
}

func reportGatherer(conn *Conn, answer func(context.Context, []certctl.Statement) []certctl.ReportAnswer) *gatherer {
	g := &gatherer{conn: conn, kind: askReport}
	g.answer = func(ctx context.Context, statements []certctl.Statement) []*nats.Msg {
		answers := answer(ctx, statements)
		messages := make([]*nats.Msg, len(answers))
		for i, a := range answers {
			messages[i] = encode(conn, kindReport, a, nil)
		}
		return messages
	}
	g.busy = func(after time.Duration) (*nats.Msg, error) {
		return newMessage("", kindReport, certctl.ReportAnswer{
			Message: "the server has too many requests", RetryAfter: certctl.Duration(after),
		})
	}
	return g
}

// encode returns the message of a body, or of the error that there is instead.
func encode(conn *Conn, kind string, body any, err error) *nats.Msg {
	m, encodeErr := (*nats.Msg)(nil), err
	if err == nil {
		m, encodeErr = newMessage("", kind, body)
	}
	if encodeErr == nil {
		return m
	}
	if m, err = errorMessage(encodeErr); err != nil {
		conn.log.Error().Err(err).Msg("an error cannot be encoded")
		return nil
	}
	return m
}

// The signer is asked with what agents sent over HTTPS: a certificate request,
// a chain of statements.
const (
	callMost      = 1 << 20 // bytes of a question or an answer
	signerCalls   = 32      // at a time, per verb and process
	signerLimit   = 20 * time.Second
	signerQueue   = "signer"
	signerNobody  = "nobody in the role signer answers"
	signerAdvised = "start certctl-server with the role signer, and look at its log"
)

// ServeSigner answers what other roles ask of the signer under verb, until ctx
// ends, whose error it returns. It answers to inboxes only.
func ServeSigner[Req, Resp any](ctx context.Context, conn *Conn, verb string, answer func(context.Context, Req) (Resp, error)) error {
	incoming := make(chan *nats.Msg, gatherBuffer)
	sub, err := conn.nc.ChanQueueSubscribe(SubjectSigner(verb), signerQueue, incoming)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "answering the signer's verb %s", verb)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection has ended
	free := make(chan struct{}, signerCalls)
	defer func() {
		for range signerCalls { // until all calls have ended
			free <- struct{}{}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-conn.closed:
			return errClosed()
		case m := <-incoming:
			if !strings.HasPrefix(m.Reply, prefixInbox) {
				conn.log.Warn().Str("subject", m.Subject).Msg("a question without an inbox gets no answer")
				continue
			}
			free <- struct{}{}
			go func() {
				defer func() { <-free }()
				result, err := callSigner(ctx, conn, m, answer)
				conn.respond(m, encode(conn, kindResult, result, err), nil)
			}()
		}
	}
}

func callSigner[Req, Resp any](ctx context.Context, conn *Conn, m *nats.Msg, answer func(context.Context, Req) (Resp, error)) (resp Resp, err error) {
	defer func() {
		if value := recover(); value != nil {
			conn.log.Error().Str("subject", m.Subject).Str("stack", string(debug.Stack())).Msg(fmt.Sprintf("the signer panicked: %v", value))
			err = certctl.Errorf(certctl.Internal, "the signer panicked")
		}
	}()
	var req Req
	if len(m.Data) > callMost {
		return resp, certctl.Errorf(certctl.Invalid, "this question has %d bytes, more than %d", len(m.Data), callMost)
	}
	if err := readMessage(m.Header, m.Data, kindCall, &req); err != nil {
		return resp, err
	}
	// What was begun is finished also when we stop.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), signerLimit)
	defer cancel()
	return answer(ctx, req)
}

// AskSigner asks the signer and decodes its answer into resp, a pointer. The
// error is the signer's own, or Unavailable when nobody answers.
func AskSigner(ctx context.Context, conn *Conn, verb string, req, resp any) error {
	m, err := newMessage(SubjectSigner(verb), kindCall, req)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, signerLimit)
	defer cancel()
	answer, err := conn.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, signerNobody).WithRemedy(signerAdvised)
	}
	return readAnswer(answer, kindResult, resp)
}

// askLimit bounds an agent's question: one that was on its way to a server just
// when it stopped is answered by nobody.
const askLimit = 30 * time.Second

// ask sends an agent's statement and decodes the answer.
func (c *Conn) ask(ctx context.Context, subject, kind string, s certctl.Statement, answer any) error {
	m, err := newMessage(subject, kindStatement, s)
	if err != nil {
		return err
	}
	if len(m.Data) > agentPayload {
		return certctl.Errorf(certctl.Invalid, "this %s statement has %d bytes, more than the bus carries (%d)", s.Kind, len(m.Data), agentPayload)
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	reply, err := c.nc.RequestMsgWithContext(ctx, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return certctl.Wrap(certctl.Unavailable, err, "no server answers on the bus")
	case err != nil:
		return certctl.Wrap(certctl.Unavailable, err, "the server cannot be asked over the bus")
	}
	return readAnswer(reply, kind, answer)
}
