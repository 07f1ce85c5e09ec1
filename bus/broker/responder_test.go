package broker_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

// The platform's responders answer what came through the export and nothing
// else: not even with rights to do everything, and not to somebody within, who
// can choose the reply.
func TestRespondersAnswerOnlyWhatCameThroughTheExport(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill(t)
	var reports, mailboxes atomic.Int64
	responder := s.platform(t)
	serve(t, func(ctx context.Context) error {
		return bus.ServeReports(ctx, responder, func(_ context.Context, statements []certctl.Statement) []certctl.ReportAnswer {
			reports.Add(int64(len(statements)))
			return make([]certctl.ReportAnswer, len(statements))
		})
	})
	serve(t, func(ctx context.Context) error {
		return bus.ServeMailbox(ctx, responder, func(_ context.Context, statements []certctl.Statement) []bus.MailboxReply {
			mailboxes.Add(int64(len(statements)))
			return make([]bus.MailboxReply, len(statements))
		})
	})
	id := certctl.NewID(time.Now())
	agent := s.dialAgent(t, id)
	statement := certctl.Statement{Domain: certctl.DomainAgent, Agent: id, Kind: certctl.ReportCSR, Time: time.Now().UTC(), Body: []byte(`{}`)}

	exchange := func() error {
		ctx, cancel := timeout(t, patience)
		defer cancel()
		_, err := agent.Report(ctx, statement)
		if err == nil {
			_, err = agent.Mailbox(ctx, statement)
		}
		return err
	}
	for deadline := time.Now().Add(patience); exchange() != nil; { // until both responders listen
		if time.Now().After(deadline) {
			t.Fatal("nobody answers")
		}
	}
	wantReports, wantMailboxes := reports.Load()+2, mailboxes.Load()+2

	// What the agent sends is overheard.
	overheard := make(chan *nats.Msg, 64)
	if _, err := s.root.ChanSubscribe("certctl.v1.agent.*.ask.*", overheard); err != nil {
		t.Fatal(err)
	}
	flush(t, s.root)
	if err := exchange(); err != nil {
		t.Fatal(err)
	}
	asked := []*nats.Msg{receive(t, overheard, "report"), receive(t, overheard, "mailbox request")}
	before := s.state(t)

	// The same again with other replies.
	heard := make(chan *nats.Msg, 64)
	if _, err := s.root.ChanSubscribe("_INBOX.thief.>", heard); err != nil {
		t.Fatal(err)
	}
	flush(t, s.root)
	replies := []string{"", "_INBOX.thief.x"}
	for _, reply := range elsewhere(id) {
		replies = append(replies, reply)
	}
	for _, reply := range replies {
		for _, request := range asked {
			if err := s.root.PublishMsg(&nats.Msg{Subject: request.Subject, Reply: reply, Header: request.Header, Data: request.Data}); err != nil {
				t.Fatal(err)
			}
		}
	}
	flush(t, s.root)
	if err := exchange(); err != nil { // behind all of that, in order
		t.Fatal(err)
	}
	if reports.Load() != wantReports || mailboxes.Load() != wantMailboxes {
		t.Errorf("%d reports and %d mailbox requests were heeded instead of %d and %d", reports.Load(), mailboxes.Load(), wantReports, wantMailboxes)
	}
	if after := s.state(t); after != before {
		t.Errorf("changed: %s", cmp.Diff(before, after))
	}
	select {
	case m := <-heard:
		t.Errorf("an answer went to %s", m.Subject)
	default:
	}
}

// platform connects as the platform does, with rights to do everything.
func (s *site) platform(t *testing.T) *bus.Conn {
	t.Helper()
	token, pair := s.rootLogin(t)
	conn, err := bus.Connect(t.Context(), bus.Options{
		InProcess: s.broker, Name: "platform", JWT: func() (string, error) { return token, nil }, Sign: pair.Sign, Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn
}

// dialAgent connects as an agent does, and returns when the connection stands.
func (s *site) dialAgent(t *testing.T, id certctl.ID) *bus.AgentConn {
	t.Helper()
	pair, public := newUser(t)
	token, err := bus.AgentJWT(s.identity, id, public, time.Now(), bus.UserLife)
	if err != nil {
		t.Fatal(err)
	}
	agent, err := bus.DialAgent(t.Context(), bus.AgentOptions{
		URLs: []string{s.broker.URL()}, Agent: id, TLS: s.tls(), Log: zerolog.Nop(),
		UserJWT: func() (string, error) { return token, nil }, Sign: pair.Sign,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(agent.Close)
	receive(t, agent.Bells(), "first bell")
	return agent
}

// serve runs until the test ends.
func serve(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("serving ended with %v", err)
		}
	})
}
