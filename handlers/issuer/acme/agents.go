package acme

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

const (
	// nodesPause is how soon it is looked again whether agents hold the proofs,
	// at most. Their reports end the wait.
	nodesPause = time.Minute

	// refusedPause is when a node that has refused is asked again. One that is
	// started anew is asked at once.
	refusedPause = 10 * time.Minute
)

// byAgents are the open proofs that agents hold, by who does.
func (s state) byAgents() []certctl.NodeProofs {
	var groups []certctl.NodeProofs
	places := map[string]int{}
	for _, p := range s.Proofs {
		if p.Valid || p.By == nil {
			continue
		}
		by, _ := json.Marshal(p.By) // a word or a list of words
		i, known := places[string(by)]
		if !known {
			i = len(groups)
			places[string(by)], groups = i, append(groups, certctl.NodeProofs{By: *p.By})
		}
		groups[i].Proofs = append(groups[i].Proofs, certctl.Proof{Type: p.Type, Identifier: p.Name, Token: p.Token, Answer: p.Answer})
	}
	return groups
}

// shown is the step after the proofs that do not stand in the DNS are in place.
func (s state) shown() step {
	if len(s.open(challengeDNS)) > 0 || len(s.open(challengePersist)) > 0 {
		return stepSpread
	}
	return stepAccept
}

// giveToAgents records who is to hold which proofs; the mailboxes carry them.
func (a *attempt) giveToAgents(ctx context.Context, groups []certctl.NodeProofs) error {
	err := a.ca.store.PutNodeProofs(ctx, a.attempt.Order, groups)
	var said *certctl.Error
	if !errors.As(err, &said) || said.Code != certctl.Invalid {
		return err
	}
	a.state.Step = stepProve // by the rules of then
	return &certctl.IssueError{
		Kind: certctl.FailRetryable, Code: "acme_answerers", Resume: true, RetryAfter: refusedPause, Cause: err, Message: withRemedy(said.Message, said.Remedy),
	}
}

// hold waits until every agent that is to answer the CA says that it can be asked.
// What a node refuses is asked again after a while, with the same order.
func (a *attempt) hold(ctx context.Context) (step, error) {
	nodes, err := a.ca.store.NodeProofs(ctx, a.attempt.Order)
	if err != nil {
		return "", err
	}
	if len(nodes) == 0 { // retired since: others may be there
		return stepPresent, nil
	}
	var missing []string
	for _, node := range nodes {
		switch {
		case node.Refusal != nil:
			a.state.Step = stepProve // by the rules of then
			return "", &certctl.IssueError{
				Kind: certctl.FailRetryable, Code: certctl.CodeNodeRefused, Resume: true, RetryAfter: refusedPause,
				Message: "the agent " + node.Agent.Name + " does not answer the CA for " + a.state.heldNames() + ": " + withRemedy(node.Refusal.Message, node.Refusal.Remedy),
			}
		case !node.Held:
			missing = append(missing, waitsFor(node))
		}
	}
	if len(missing) == 0 {
		return a.state.shown(), nil
	}
	after := min(time.Second<<min(a.state.Polls, 6), nodesPause)
	return "", &certctl.Pause{After: after, Wait: certctl.WaitNodes, Message: "the CA is not told to look at " + a.state.heldNames() +
		" before all agents hold the proof: " + strings.Join(missing, ", ")}
}

// waitsFor says which agent is waited for, and whether it can be reached.
func waitsFor(node certctl.NodeProof) string {
	switch {
	case !node.Offline:
		return node.Agent.Name + " has not answered yet"
	case node.LastContact.IsZero():
		return node.Agent.Name + " has never been on line"
	}
	return node.Agent.Name + " is off line since " + node.LastContact.UTC().Format(time.RFC3339)
}

// heldNames are the names that agents prove, for a person.
func (s state) heldNames() string {
	var names []string
	for _, p := range s.Proofs {
		if !p.Valid && p.By != nil {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	if more := len(names) - 3; more > 0 {
		return strings.Join(names[:3], ", ") + " and others"
	}
	return strings.Join(names, ", ")
}
