package bus_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/bustest"
)

func statementOf(agent certctl.ID) certctl.Statement {
	s := someStatement
	s.Agent = agent
	return s
}

func TestAgentsAskAndReport(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	signer, worker := server.Connect(t, bus.RoleSigner), server.Connect(t, bus.RoleWorker)
	allowed(t, signer)
	allowed(t, worker)
	stopMailbox := background(t, func(ctx context.Context) error {
		return bus.ServeMailbox(ctx, signer, func(_ context.Context, statements []certctl.Statement) []bus.MailboxReply {
			replies := make([]bus.MailboxReply, len(statements))
			for i, s := range statements {
				replies[i].Mailbox.Commands = []certctl.Statement{s}
				if s.Number == 99 {
					replies[i].Err = certctl.Errorf(certctl.Denied, "not you").WithRemedy("be another")
				}
			}
			return replies
		})
	})
	background(t, func(ctx context.Context) error {
		return bus.ServeReports(ctx, worker, func(_ context.Context, statements []certctl.Statement) []certctl.ReportAnswer {
			answers := make([]certctl.ReportAnswer, len(statements))
			for i, s := range statements {
				answers[i] = certctl.ReportAnswer{Recorded: true, Message: s.Kind}
			}
			return answers
		})
	})
	id := certctl.NewID(time.Now())
	agent := server.Agent(t, id)
	var box certctl.Mailbox
	eventually(t, "the mailbox is answered", func() bool {
		var err error
		box, err = agent.Mailbox(t.Context(), statementOf(id))
		return err == nil
	})
	if len(box.Commands) != 1 || box.Commands[0].Agent != id {
		t.Errorf("the mailbox holds %+v", box)
	}
	eventually(t, "the report is answered", func() bool {
		answer, err := agent.Report(t.Context(), statementOf(id))
		return err == nil && answer.Recorded && answer.Message == certctl.ReportCSR
	})
	refused := statementOf(id)
	refused.Number = 99
	var ours *certctl.Error
	if _, err := agent.Mailbox(t.Context(), refused); !errors.As(err, &ours) || ours.Code != certctl.Denied || ours.Remedy != "be another" {
		t.Errorf("a refused request gives %v", err)
	}
	if _, err := agent.Report(t.Context(), statementOf(someID)); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("a statement of another agent gives %v", err)
	}
	large := statementOf(id)
	large.Body = make([]byte, 300<<10)
	if _, err := agent.Report(t.Context(), large); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("a statement that is too large gives %v", err)
	}
	if err := stopMailbox(); !errors.Is(err, context.Canceled) {
		t.Errorf("serving ended with %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // the broker may not have heard yet that nobody serves
	defer cancel()
	if _, err := agent.Mailbox(ctx, statementOf(id)); certctl.ErrorCode(err) != certctl.Unavailable {
		t.Errorf("without a server the mailbox gives %v", err)
	}
}

func TestRequestsAreGathered(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	worker := server.Connect(t, bus.RoleWorker)
	var calls, answered atomic.Int64
	background(t, func(ctx context.Context) error {
		return bus.ServeReports(ctx, worker, func(_ context.Context, statements []certctl.Statement) []certctl.ReportAnswer {
			calls.Add(1)
			answered.Add(int64(len(statements)))
			answers := make([]certctl.ReportAnswer, len(statements))
			for i, s := range statements {
				answers[i] = certctl.ReportAnswer{Recorded: true, Message: s.Object.String()}
			}
			return answers
		})
	})
	id := certctl.NewID(time.Now())
	agent := server.Agent(t, id)
	eventually(t, "reports are answered", func() bool {
		_, err := agent.Report(t.Context(), statementOf(id))
		return err == nil
	})
	before := calls.Load()
	var group sync.WaitGroup
	for range 1000 {
		group.Go(func() {
			s := statementOf(id)
			s.Object = certctl.NewID(time.Now())
			answer, err := agent.Report(t.Context(), s)
			if err != nil || answer.Message != s.Object.String() {
				t.Errorf("the report about %s gets %+v, %v", s.Object, answer, err)
			}
		})
	}
	group.Wait()
	if n := calls.Load() - before; n > 250 {
		t.Errorf("%d calls for 1000 reports at once", n)
	}
}

// A request that did not come through the export could have its answer sent
// anywhere.
func TestRequestsWithAChosenReplyAreNotAnswered(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	worker := server.Connect(t, bus.RoleWorker)
	called := make(chan struct{}, 1)
	background(t, func(ctx context.Context) error {
		return bus.ServeReports(ctx, worker, func(_ context.Context, statements []certctl.Statement) []certctl.ReportAnswer {
			called <- struct{}{}
			return make([]certctl.ReportAnswer, len(statements))
		})
	})
	id := certctl.NewID(time.Now())
	agent := server.Agent(t, id)
	eventually(t, "reports are answered", func() bool {
		_, err := agent.Report(t.Context(), statementOf(id))
		return err == nil
	})
	receive(t, called, "the agent's own report")
	m, err := bus.StatementMessage(statementOf(id))
	must(t, err)
	// Roles may not publish there, and if one could, as here from inside, it would
	// get no answer.
	m.Reply = "certctl.v1.event.default.system.forged"
	if err := bus.TakeRequest(worker, m); err == nil {
		t.Error("the request is taken")
	}
	m.Reply = "_R_.abc"
	must(t, bus.TakeRequest(worker, m))
	if len(called) != 0 {
		t.Error("a call was made")
	}
}

func TestOverloadedServersAskForPatience(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	worker := server.Connect(t, bus.RoleWorker)
	m, err := bus.StatementMessage(statementOf(someID))
	must(t, err)
	m.Reply = "_R_.abc"
	busy, err := bus.BusyAnswer(worker, m)
	must(t, err)
	if busy.Recorded || busy.RetryAfter <= 0 {
		t.Errorf("an overloaded server answers %+v", busy)
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	worker := server.Connect(t, bus.RoleWorker)
	background(t, func(ctx context.Context) error {
		return bus.ServeReports(ctx, worker, func(_ context.Context, statements []certctl.Statement) []certctl.ReportAnswer {
			if statements[0].Number == 99 {
				panic("at 99")
			}
			return make([]certctl.ReportAnswer, len(statements))
		})
	})
	id := certctl.NewID(time.Now())
	agent := server.Agent(t, id)
	good, bad := statementOf(id), statementOf(id)
	bad.Number = 99
	eventually(t, "reports are answered", func() bool {
		_, err := agent.Report(t.Context(), good)
		return err == nil
	})
	if _, err := agent.Report(t.Context(), bad); certctl.ErrorCode(err) != certctl.Internal || strings.Contains(err.Error(), "99") {
		t.Errorf("a panic gives %v", err)
	}
	_, err := agent.Report(t.Context(), good)
	must(t, err)
}

func TestLargeMailboxesAreCut(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	signer := server.Connect(t, bus.RoleSigner)
	background(t, func(ctx context.Context) error {
		return bus.ServeMailbox(ctx, signer, func(_ context.Context, statements []certctl.Statement) []bus.MailboxReply {
			large := someStatement
			large.Body = make([]byte, 100<<10)
			box := certctl.Mailbox{Commands: slices.Repeat([]certctl.Statement{large}, 50)}
			return slices.Repeat([]bus.MailboxReply{{Mailbox: box}}, len(statements))
		})
	})
	id := certctl.NewID(time.Now())
	agent := server.Agent(t, id)
	eventually(t, "the mailbox is answered", func() bool {
		box, err := agent.Mailbox(t.Context(), statementOf(id))
		return err == nil && box.More && len(box.Commands) > 3 && len(box.Commands) < 10
	})
}

func TestBells(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	conn := server.Connect(t, bus.RoleScheduler)
	bells := bus.NewBells(conn)
	online := certctl.NewID(time.Now())
	agent := server.Agent(t, online)
	absent := make([]certctl.ID, 5000)
	for i := range absent {
		absent[i] = certctl.NewID(time.Now())
	}
	offline, err := bells.Ring(t.Context(), append(slices.Clone(absent), online))
	must(t, err)
	receive(t, agent.Bells(), "the bell")
	if len(offline) != len(absent) || slices.Contains(offline, online) {
		t.Errorf("%d of %d agents are said to be off line", len(offline), len(absent))
	}
	agent.Close()
	if _, open := <-agent.Bells(); open {
		t.Error("a closed connection has bells")
	}
	agent.Close()
	eventually(t, "the agent that left is off line", func() bool {
		offline, err := bells.Ring(t.Context(), []certctl.ID{online})
		must(t, err)
		return len(offline) == 1
	})
	if n, err := conn.Denials(); n != 0 {
		t.Errorf("the broker refused something: %v", err)
	}
}

func TestABellMayHaveBeenMissedOverAReconnect(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	agent := server.Agent(t, certctl.NewID(time.Now()))
	must(t, agent.Reconnect())
	receive(t, agent.Bells(), "a bell after the reconnect")
	eventually(t, "it is connected", agent.Connected)
}

func TestTheSignerIsAsked(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	signer, api := server.Connect(t, bus.RoleSigner), server.Connect(t, bus.RoleAPI)
	allowed(t, signer)
	allowed(t, api)
	type question struct{ Name string }
	type answer struct{ Greeting string }
	background(t, func(ctx context.Context) error {
		return bus.ServeSigner(ctx, signer, "enroll", func(_ context.Context, q question) (answer, error) {
			if q.Name == "" {
				return answer{}, certctl.InvalidField("/name", "must be set")
			}
			return answer{"hello " + q.Name}, nil
		})
	})
	var got answer
	eventually(t, "the signer answers", func() bool {
		return bus.AskSigner(t.Context(), api, "enroll", question{"web-1"}, &got) == nil
	})
	if got.Greeting != "hello web-1" {
		t.Errorf("the signer says %q", got.Greeting)
	}
	var ours *certctl.Error
	err := bus.AskSigner(t.Context(), api, "enroll", question{}, &got)
	if !errors.As(err, &ours) || ours.Code != certctl.Invalid || len(ours.Fields) != 1 {
		t.Errorf("a wrong question gives %v", err)
	}
	if err := bus.AskSigner(t.Context(), api, "other", question{}, &got); certctl.ErrorCode(err) != certctl.Unavailable {
		t.Errorf("a verb that nobody serves gives %v", err)
	}
}
