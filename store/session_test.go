package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// sessions is an agent whose requests come from several runs of it, each at so
// many seconds by the node's clock.
type sessions struct {
	*world
	agent   certctl.ID
	machine string
	began   time.Time
}

func newSessions(t *testing.T) *sessions {
	t.Helper()
	w := newWorld(t)
	_, d := w.deployed("one")
	return &sessions{world: w, agent: d.Agent, machine: w.text(`select machine_id from agent where id = $1`, d.Agent), began: time.Now()}
}

// asks returns why a session must end, if it must.
func (s *sessions) asks(session byte, second int) string {
	s.t.Helper()
	answers, err := s.MailboxFor(s.ctx, []certctl.MailboxAsk{{
		Agent: s.agent, Time: s.began.Add(time.Duration(second) * time.Second),
		Request: certctl.MailboxRequest{Session: certctl.ID{session}, MachineID: s.machine, Version: "1"},
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	return answers[0].Stop
}

func (s *sessions) state() certctl.AgentState {
	s.t.Helper()
	return certctl.AgentState(s.text(`select state from agent where id = $1`, s.agent))
}

// Two machines with one identity start again in turn.
func TestTwoMachinesThatTakeTurnsAreInConflict(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	for i, ask := range []struct {
		session byte
		stops   bool
	}{{1, false}, {2, false}, {1, true}, {3, false}, {2, true}} {
		if stop := s.asks(ask.session, i); (stop != "") != ask.stops {
			t.Fatalf("request %d of session %d: %q", i, ask.session, stop)
		}
	}
	if state := s.state(); state != certctl.AgentConflict {
		t.Errorf("the agent is %s", state)
	}
}

// Requests of earlier runs that were late on their way, or are played back by
// somebody on the bus, are answered with a stop, and prove nothing.
func TestLateRequestsOfEarlierSessionsProveNothing(t *testing.T) {
	t.Parallel()
	s := newSessions(t)
	for i := range byte(4) {
		if stop := s.asks(i+1, 10*int(i)); stop != "" {
			t.Fatalf("session %d: %s", i+1, stop)
		}
	}
	for range 2 {
		for i := range byte(3) {
			if stop := s.asks(i+1, 10*int(i)+5); stop == "" {
				t.Errorf("session %d goes on", i+1)
			}
		}
	}
	if state := s.state(); state != certctl.AgentActive {
		t.Errorf("the agent is %s", state)
	}
	if stop := s.asks(4, 60); stop != "" {
		t.Errorf("the session that counts: %s", stop)
	}
}
