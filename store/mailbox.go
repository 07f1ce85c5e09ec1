package store

import (
	"context"

	"github.com/certctl/certctl"
)

// MailboxFor answers agents that ask for work, many in one transaction: the i-th
// answer is to the i-th question. An agent's contact is noted, its session
// judged (see session.ask), and everything that it should do is in the answer:
// keys to make, versions to install, bindings to forget, the newest of each, as
// far as fits (More).
//
// What an agent says that it has is held against what is recorded: a version
// that was verified and is there no more is sent again, under a new number, and
// a binding that was forgotten and is still there is to be forgotten again.
// Both only after a while, since a report may be faster than a question.
//
// Two signers that are asked by the same agent answer one after the other. A
// command that was sent keeps its number until it is answered, so both give the
// same; numbers of a binding only rise, and rise above any that the node has
// seen, even if the database is older than the node.
func (s *Store) MailboxFor(ctx context.Context, asks []certctl.MailboxAsk) ([]certctl.MailboxWork, error) {
	work := make([]certctl.MailboxWork, len(asks))
	err := s.write(ctx, certctl.SystemActor("signer"), func(t *tx) error {
		ids := map[certctl.ID]bool{}
		for _, ask := range asks {
			ids[ask.Agent] = true
		}
		contacts, err := t.contacts(ctx, keysOf(ids))
		if err != nil {
			return err
		}
		for i, ask := range asks {
			if work[i].Stop, err = t.admit(ctx, contacts[ask.Agent], ask); err != nil {
				return err
			}
		}
		if err := t.saveContacts(ctx, contacts); err != nil {
			return err
		}
		boxes, err := t.mailboxes(ctx, contacts)
		if err != nil {
			return err
		}
		for i, ask := range asks {
			work[i] = answerTo(ask, work[i].Stop, contacts[ask.Agent], boxes[ask.Agent])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return work, nil
}

// admit judges one question, and returns why its session must end, if it must.
func (t *tx) admit(ctx context.Context, c *contact, ask certctl.MailboxAsk) (stop string, err error) {
	if c == nil {
		return "there is no such agent", nil
	}
	switch c.agent.State {
	case certctl.AgentActive:
	case certctl.AgentConflict:
		return "this agent is in conflict: " + c.agent.StateReason, nil
	default:
		return "this agent is " + string(c.agent.State), nil
	}
	before, by := c.session.id, c.session.alternatedBy
	v := c.session.ask(ask, c.agent.MachineID, t.now)
	c.changed = c.changed || before != c.session.id || by != c.session.alternatedBy
	switch {
	case v.conflict != "":
		c.counts = false
		return v.stop, t.inConflict(ctx, &c.agent, v, ask.Request.MachineID)
	case v.stop != "":
		return v.stop, nil
	}
	c.counts, c.last = true, ask.Request
	return "", nil
}

// answerTo is the answer to one question. A session that another question of the
// same batch has superseded ends, too, and one in conflict gets nothing.
func answerTo(ask certctl.MailboxAsk, stop string, c *contact, box *certctl.MailboxWork) certctl.MailboxWork {
	switch {
	case c == nil:
		return certctl.MailboxWork{Agent: certctl.Agent{ID: ask.Agent}, Stop: stop}
	case stop == "" && c.agent.State == certctl.AgentConflict:
		stop = "this agent is in conflict: " + c.agent.StateReason
	case stop == "" && ask.Request.Session != c.session.id:
		stop = "another run of this agent has taken over"
	}
	if stop != "" || box == nil {
		return certctl.MailboxWork{Agent: c.agent, Stop: stop}
	}
	return *box
}

// mailboxes finds, marks as sent and returns what waits for the agents whose
// questions count.
func (t *tx) mailboxes(ctx context.Context, contacts map[certctl.ID]*contact) (map[certctl.ID]*certctl.MailboxWork, error) {
	boxes := map[certctl.ID]*certctl.MailboxWork{}
	asking := map[certctl.ID]*contact{}
	for id, c := range contacts {
		if c.counts {
			asking[id], boxes[id] = c, &certctl.MailboxWork{Agent: c.agent}
		}
	}
	if len(asking) == 0 {
		return boxes, nil
	}
	used, err := t.sendProofs(ctx, asking, boxes)
	if err == nil {
		err = t.sendTests(ctx, asking, boxes, used)
	}
	if err != nil {
		return nil, err
	}
	items, err := t.openWork(ctx, asking)
	if err == nil {
		items, err = t.askForUnknown(ctx, asking, boxes, items)
	}
	if err != nil {
		return boxes, err
	}
	if len(items) == 0 {
		return boxes, t.addTargets(ctx, boxes)
	}
	versions, err := t.versionsToSend(ctx, items)
	if err != nil {
		return nil, err
	}
	items = fitting(items, versions, boxes, used)
	if err := t.lockCertificatesOf(ctx, `select unnest($1::uuid[])`, certificatesOf(items)); err != nil {
		return nil, err
	}
	for _, send := range []func(context.Context, []openItem, map[certctl.ID]*contact, map[certctl.ID]*certctl.MailboxWork) error{
		t.sendKeys, t.sendForgets, t.sendErases,
	} {
		if err := send(ctx, items, asking, boxes); err != nil {
			return nil, err
		}
	}
	if err := t.sendInstalls(ctx, items, versions, asking, boxes); err != nil {
		return nil, err
	}
	if err := t.sendShares(ctx, items, boxes); err != nil {
		return nil, err
	}
	return boxes, t.addTargets(ctx, boxes)
}
