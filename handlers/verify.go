package handlers

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"sync"
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
	believed     *believed
}

func newVerifier(installation certctl.ID, fleet ed25519.PublicKey, agents AgentStore) verifier {
	return verifier{installation: installation, fleet: fleet, agents: agents, believed: &believed{}}
}

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
	if err := v.vouched(agent); err != nil {
		return err
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

// vouched proves that the signer, and not somebody with access to the database,
// tied these public keys to this agent. What was proved once for these very keys
// and this very statement is proved.
func (v verifier) vouched(agent certctl.Agent) error {
	word := agent.Statement
	claim := claimOf(agent)
	if v.believed.has(agent.ID, claim) {
		return nil
	}
	var keys certctl.AgentKeys
	if err := word.Verify(certctl.DomainEnrolment, v.fleet); err != nil {
		return certctl.Wrap(certctl.Denied, err, "nobody vouches for this agent's keys")
	}
	if err := word.Decode(&keys); err != nil {
		return err
	}
	if word.Agent != agent.ID || word.Installation != v.installation || keys.Bus != agent.Keys.Bus ||
		!bytes.Equal(keys.Signing, agent.Keys.Signing) || !bytes.Equal(keys.Sealing, agent.Keys.Sealing) {
		return certctl.Errorf(certctl.Denied, "this agent's keys are not those that it enrolled with")
	}
	v.believed.add(agent.ID, claim)
	return nil
}

// claimOf is what is believed or not: an agent's keys and the word for them.
func claimOf(agent certctl.Agent) certctl.Digest {
	word := agent.Statement.Digest()
	claim := sha256.New()
	for _, field := range [][]byte{agent.ID[:], word[:], []byte(agent.Keys.Bus), agent.Keys.Signing, agent.Keys.Sealing} {
		_ = binary.Write(claim, binary.BigEndian, uint32(len(field))) //nolint:gosec // keys are small; a hash takes everything
		_, _ = claim.Write(field)
	}
	return certctl.Digest(claim.Sum(nil))
}

// claimsKept bounds what a process remembers, at some hundred bytes each.
const claimsKept = 100_000

// believed remembers the last claim of each agent that was proved. The zero value
// believes nothing.
type believed struct {
	mu  sync.Mutex
	all map[certctl.ID]certctl.Digest
}

func (b *believed) has(agent certctl.ID, claim certctl.Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.all[agent]
	return ok && known == claim
}

func (b *believed) add(agent certctl.ID, claim certctl.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil || len(b.all) >= claimsKept {
		b.all = map[certctl.ID]certctl.Digest{}
	}
	b.all[agent] = claim
}
