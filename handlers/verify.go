package handlers

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/certctl/certctl"
)

// AgentStore tells which agents there are, with the public keys that the
// signer vouched for when they enrolled.
type AgentStore interface {
	AgentsByID(ctx context.Context, ids []certctl.ID) (map[certctl.ID]certctl.Agent, error)
}

// verifier decides whether a statement was really made by the agent that it
// names. Nothing is read from a statement's body before it has passed.
type verifier struct {
	installation certctl.ID
	fleet        ed25519.PublicKey
	agents       AgentStore
}

// maxClockSkew bounds how far a statement's time may lie from ours. It is
// generous because nodes with wrong clocks must still be served; replays are
// held off by order, deployment and number, not by time.
const maxClockSkew = 7 * certctl.Day

// verify checks many statements with one read of the store. The i-th error is
// nil when the i-th statement may be believed; agents holds those that passed.
func (v verifier) verify(ctx context.Context, statements []certctl.Statement) (agents map[certctl.ID]certctl.Agent, errs []error, err error) {
	ids := make([]certctl.ID, len(statements))
	for i, s := range statements {
		ids[i] = s.Agent
	}
	agents, err = v.agents.AgentsByID(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	errs = make([]error, len(statements))
	for i, s := range statements {
		errs[i] = v.check(agents[s.Agent], s)
	}
	return agents, errs, nil
}

// check is the decision on one statement.
func (v verifier) check(agent certctl.Agent, s certctl.Statement) error {
	if agent.ID.IsZero() || agent.ID != s.Agent {
		return certctl.Errorf(certctl.Denied, "no such agent")
	}
	if s.Installation != v.installation {
		return certctl.Errorf(certctl.Denied, "this statement was made for another installation")
	}
	if err := s.Verify(certctl.DomainAgent, agent.Keys.Signing); err != nil {
		return err
	}
	switch agent.State {
	case certctl.AgentRetired:
		return certctl.Errorf(certctl.Gone, "this agent was retired on %s", agent.RetiredAt.Format(time.DateOnly))
	case certctl.AgentPending:
		return certctl.Errorf(certctl.Denied, "this agent waits for approval").
			WithRemedy("certctl agents approve %s", agent.Name)
	}
	return nil
}
