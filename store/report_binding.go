package store

import (
	"context"

	"github.com/certctl/certctl"
)

// takeForgotten records that a node manages a binding no more. Whichever of the
// commands to forget it answers, it has forgotten.
func (b *reportBatch) takeForgotten(s certctl.Statement) error {
	x := b.bindings[s.Object]
	switch {
	case x == nil || x.agent != s.Agent:
		return notYours("binding")
	case x.forgotten:
		return nil
	case !x.unbound || s.Number == 0 || s.Number > x.number:
		return over("command")
	}
	x.forgotten, x.forgets = true, true
	b.done[dueBinding] = append(b.done[dueBinding], x.id)
	b.changed[x.certificate] = true
	return nil
}

// refuseForget lets a binding wait that its node will not let go of now.
func (b *reportBatch) refuseForget(s certctl.Statement) error {
	x := b.bindings[s.Object]
	switch {
	case x.agent != s.Agent:
		return notYours("binding")
	case x.forgotten || !x.unbound || s.Number != x.number:
		return over("command")
	}
	x.refused = true
	b.due = append(b.due, dueRow{kind: dueBinding, id: x.id, verb: certctl.HintBell, agent: x.agent, urgency: certctl.UrgencyNormal,
		at: b.now.Add(refusalAgain)})
	return nil
}

func (b *reportBatch) writeBindings(ctx context.Context) error {
	var forgotten, refused []certctl.ID
	for _, id := range sortedIDs(b.bindings) {
		switch x := b.bindings[id]; {
		case x.forgets:
			forgotten = append(forgotten, id)
		case x.refused:
			refused = append(refused, id)
		}
	}
	if len(forgotten)+len(refused) == 0 {
		return nil
	}
	_, err := b.Exec(ctx, `
		update binding set forgotten_at = case when id = any($1) then now() end, wait = case when id = any($1) then '' else 'backoff' end
		where id = any($1) or id = any($2)`, some(forgotten), some(refused))
	return err
}
