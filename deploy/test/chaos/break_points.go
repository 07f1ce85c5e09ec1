package chaos

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/certctl/certctl/agent"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/deploy/local"
)

// serverPoints are those of cmd/certctl-server/faults.go. A hint that the bus has
// lost is given again by the dispatcher when its row is due, a minute later.
var serverPoints = []string{
	"committed", "issue-begun", "issue-signed", "issue-finished", "report-recorded", "mailbox-read", pointDue,
}

const pointDue = "due-claimed"

// agentPoints are all that agents and targets name.
var agentPoints = []string{
	string(agent.FaultKeyStored), string(agent.FaultKeyJournalled), string(agent.FaultBeforeReceipt), string(agent.FaultAfterReceipt),
	string(agent.FaultBeforeReport), string(agent.FaultAfterReport), string(agent.FaultTargetRecorded),
	target.FaultStaged, target.FaultSwitched, target.FaultReloaded, target.FaultProbed,
}

// reachTimeout is how long a process may take to come to its point.
const reachTimeout = 2 * time.Minute

// killServerAtPoints lets a server end itself at each point, at the first or a
// later time that it comes there.
func killServerAtPoints(ctx context.Context, s *stand) error {
	for range s.times(2, 1) {
		for _, i := range s.random.Perm(len(serverPoints)) {
			if err := s.killServerAt(ctx, serverPoints[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *stand) killServerAt(ctx context.Context, point string) error {
	if s.options.Short && point == pointDue {
		return nil // it takes a minute
	}
	n := s.random.IntN(len(s.Servers))
	server := s.Servers[n]
	plain := server.Env
	if err := server.Stop(ctx); err != nil {
		return err
	}
	server.Env = append(plain[:len(plain):len(plain)], fmt.Sprintf("CERTCTL_FAULT=%s:kill:%d", point, 1+s.random.IntN(3)))
	err := server.Spawn()
	server.Env = plain
	if err != nil {
		return err
	}
	if point == pointDue {
		s.NATSProxies[0].Cut() // hints are lost, so that something will be due
		s.pass(ctx, 3*time.Second)
		s.NATSProxies[0].Heal()
	}
	s.fault("server %d ends itself at %s", n, point)
	if err := s.reached(ctx, server.Process(), point); err != nil {
		return err
	}
	return errors.Join(server.Start(ctx), s.recovered(ctx))
}

// reached waits for the end of a process that is to end itself.
func (s *stand) reached(ctx context.Context, process *local.Process, point string) error {
	select {
	case <-process.Done():
		if err := process.Err(); err == nil || err.Error() != "signal: killed" {
			return fmt.Errorf("at %s: %w; %s", point, err, process.Log())
		}
		return nil
	case <-time.After(reachTimeout):
		return fmt.Errorf("the point %s was not reached within %s", point, reachTimeout)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// killAgentAtPoints lets the agent with the nginx end itself at each point. What
// it was doing must be done, once, when it is back.
func killAgentAtPoints(ctx context.Context, s *stand) error {
	web, err := s.serveNginx(ctx)
	if err != nil {
		return err
	}
	for range s.times(3, 1) {
		for _, i := range s.random.Perm(len(agentPoints)) {
			if err := s.killAgentAt(ctx, agentPoints[i], web); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *stand) killAgentAt(ctx context.Context, point string, web *web) error {
	victim := s.Agents[0]
	if err := victim.Stop(ctx); err != nil {
		return err
	}
	victim.Env = []string{"CERTCTL_FAULT=" + point + ":kill"}
	err := victim.Spawn()
	victim.Env = nil
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*reachTimeout)
	defer cancel()
	name, folder := web.target, web.folder
	if point == string(agent.FaultTargetRecorded) { // by a target that is new to it
		name = fmt.Sprintf("more-%d", s.report.Faults)
		folder = filepath.Join(victim.Dir, "live", name)
		if err := s.addTarget(ctx, name, "files", map[string]any{"directory": folder}); err != nil {
			return err
		}
	}
	certificate, err := s.load.submitTo(ctx, name, folder)
	if err != nil {
		return err
	}
	s.fault("the agent ends itself at %s", point)
	if err := s.reached(ctx, victim.Process(), point); err != nil {
		return err
	}
	back := time.Now()
	if err := errors.Join(victim.Start(ctx), s.load.active(ctx, certificate)); err != nil {
		return err
	}
	s.report.recoveries = append(s.report.recoveries, time.Since(back))
	return s.noTemporaryFiles(web.folder)
}
