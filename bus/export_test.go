package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
)

// What tests see of the inside.

const (
	MaxTries   = maxTries
	HeaderKind = headerKind
)

func (c *Conn) NATS() *nats.Conn        { return c.nc }
func (c *Conn) JS() jetstream.JetStream { return c.js }
func (c *Conn) Missing()                { c.missing.flash() }

// SetTimes shortens what a test would wait for.
func (r *Router) SetTimes(ackWait, grace time.Duration) { r.ackWait, r.grace = ackWait, grace }

func (r *Relay) RunOnce(ctx context.Context) (published, aside int, err error) { return r.runOnce(ctx) }
func (r *Relay) SetEvery(every time.Duration)                                  { r.every = every }
func (r *Relay) SendBatch(ctx context.Context, events []certctl.Event) error {
	return r.sendBatch(ctx, events)
}

// SetClock gives the announcer another clock.
func (a *Announcer) SetClock(now func() time.Time) { a.now = now }

// AnnounceAge is how long an event may wait.
const AnnounceAge = announceAge

func (s *Supervisor) RunOnce(ctx context.Context) error { return s.runOnce(ctx) }
func (s *Supervisor) SetGrace(grace time.Duration)      { s.grace = grace }

// PaceDelay returns the delay of attempt n and its upper bound.
func PaceDelay(n uint, random func(time.Duration) time.Duration) time.Duration {
	p := paceAgent
	p.rand = random
	return p.delay(n)
}

func HintMessage(h certctl.Hint) (*nats.Msg, error)   { return hintMessage(h) }
func EventMessage(e certctl.Event) (*nats.Msg, error) { return eventMessage(e) }
func ErrorMessage(err error) (*nats.Msg, error)       { return errorMessage(err) }
func StatementMessage(s certctl.Statement) (*nats.Msg, error) {
	return newMessage(SubjectAskReport(s.Agent), kindStatement, s)
}
func MailboxMessage(m certctl.Mailbox) (*nats.Msg, error)     { return newMessage("", kindMailbox, m) }
func ReportMessage(a certctl.ReportAnswer) (*nats.Msg, error) { return newMessage("", kindReport, a) }

// Read decodes a message as its receiver does and returns what it holds.
func Read(m *nats.Msg) (any, error) {
	switch m.Header.Get(headerKind) {
	case kindHint:
		return readHint(m.Subject, m.Header, m.Data)
	case kindStatement:
		var s certctl.Statement
		err := readMessage(m.Header, m.Data, kindStatement, &s)
		return s, err
	case kindMailbox:
		var box certctl.Mailbox
		err := readAnswer(m, kindMailbox, &box)
		return box, err
	case kindReport:
		var a certctl.ReportAnswer
		err := readAnswer(m, kindReport, &a)
		return a, err
	case kindError:
		return nil, readAnswer(m, kindReport, nil)
	}
	return readEvent(m.Subject, m.Header, m.Data)
}

// TakeRequest has a gatherer of reports take a message and returns why not.
func TakeRequest(c *Conn, m *nats.Msg) error {
	g := &gatherer{conn: c, kind: askReport}
	if !g.take(m) {
		return errUnknownKind
	}
	return nil
}

// BusyAnswer is what a gatherer of reports with too many waiting answers.
func BusyAnswer(c *Conn, m *nats.Msg) (certctl.ReportAnswer, error) {
	g := reportGatherer(c, nil)
	var asked time.Duration
	inner := g.busy
	var answer certctl.ReportAnswer
	var failed error
	g.busy = func(after time.Duration) (*nats.Msg, error) {
		asked = after
		busy, err := inner(after)
		if failed = err; err == nil {
			failed = readAnswer(busy, kindReport, &answer)
		}
		return busy, err
	}
	g.waiting = make([]request, gatherWaiting)
	if g.take(m) || asked == 0 {
		return answer, errUnknownKind
	}
	return answer, failed
}
