package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// installReminder is how long an agent is given for an installation before it
// is rung again.
const installReminder = 5 * time.Minute

// keyMissing is the code of a refusal to use a key again: the node has it no more.
const keyMissing = "key_missing"

// idsOf returns the items of a kind.
func idsOf(items []openItem, kind string) (ids []certctl.ID, byID map[certctl.ID]openItem) {
	byID = map[certctl.ID]openItem{}
	for _, item := range items {
		if item.kind == kind {
			ids, byID[item.id] = append(ids, item.id), item
		}
	}
	return ids, byID
}

// sendKeys puts the orders into the boxes that wait for their agents' CSRs. An
// order's command keeps its number until the agent has refused it.
func (t *tx) sendKeys(ctx context.Context, items []openItem, _ map[certctl.ID]*contact, boxes map[certctl.ID]*certctl.MailboxWork) error {
	ids, byID := idsOf(items, dueOrder)
	if len(ids) == 0 {
		return nil
	}
	// Setting a number that is set already would cost a write for each question.
	if err := t.put(ctx, `
		update cert_order set number = $2 where id = any($1) and state = 'awaiting_csr' and number = 0`, ids, t.now.UnixMicro()); err != nil {
		return err
	}
	rows, err := t.Query(ctx, `
		select o.id, o.number, c.name,
			case when (o.profile->>'reuse_key')::boolean and o.error_code <> $2 and v.revoked_at is null
				and not exists (select from blocked_key where spki = v.spki) then v.spki end
		from cert_order o join certificate c on c.id = o.certificate_id join holder h on h.id = o.holder_id
		left join version v on v.id = h.version_id
		where o.id = any($1) and o.state = 'awaiting_csr' and o.wait <> 'backoff' and h.ended_at is null`, ids, keyMissing)
	if err != nil {
		return err
	}
	keys := map[certctl.ID]certctl.KeyWork{}
	var id certctl.ID
	var k certctl.KeyWork
	if _, err := pgx.ForEachRow(rows, []any{&id, &k.Number, &k.Certificate, &k.Reuse}, func() error {
		keys[id] = k
		return nil
	}); err != nil {
		return err
	}
	orders, err := t.orders(ctx, ids)
	for _, o := range orders {
		if k, open := keys[o.ID]; open {
			k.Order = o
			box := boxes[byID[o.ID].agent]
			box.Keys = append(box.Keys, k)
		}
	}
	if err != nil {
		return err
	}
	return t.addRecipients(ctx, boxes)
}

// sendForgets puts the bindings into the boxes that agents should let go of. The
// number rises each time, so that it is above that of whatever the agent is
// doing there; to forget twice is harmless.
func (t *tx) sendForgets(ctx context.Context, items []openItem, asking map[certctl.ID]*contact, boxes map[certctl.ID]*certctl.MailboxWork) error {
	ids, byID := idsOf(items, dueBinding)
	if len(ids) == 0 {
		return nil
	}
	floors := make([]int64, len(ids))
	for i, id := range ids {
		floors[i] = t.floor(asking[byID[id].agent], id)
	}
	rows, err := t.Query(ctx, `
		update binding b set number = greatest(b.number + 1, new.floor)
		from unnest($1::uuid[], $2::bigint[]) as new(id, floor), target
		where b.id = new.id and target.id = b.target_id and b.unbound_at is not null and b.forgotten_at is null
		returning b.id, b.certificate_id, b.target_id, target.name, target.agent_id, b.place, b.slot, b.number, b.created_at, b.unbound_at, b.remove`,
		ids, floors)
	if err != nil {
		return err
	}
	var b certctl.Binding
	var remove bool
	_, err = pgx.ForEachRow(rows, []any{&b.ID, &b.Certificate, &b.Target.ID, &b.Target.Name, &b.Agent, &b.Place, &b.Slot, &b.Number,
		&b.CreatedAt, &b.UnboundAt, &remove}, func() error {
		box := boxes[b.Agent]
		box.Forgets = append(box.Forgets, certctl.ForgetWork{Binding: b, Remove: remove, Number: b.Number})
		return nil
	})
	return err
}

// floor is the least number of the next command for a binding: the clock in
// microseconds, and above what the node has seen. A node that claims to have
// seen numbers from the future is not believed.
func (t *tx) floor(c *contact, binding certctl.ID) int64 {
	return max(t.now.UnixMicro(), t.seen(c, binding)+1)
}

// seen is the newest number of a binding that a node has carried out, as it says.
func (t *tx) seen(c *contact, binding certctl.ID) int64 {
	for _, i := range c.last.Installed {
		if i.Binding == binding && t.plausible(i.Number) {
			return i.Number
		}
	}
	return 0
}

// plausible reports whether a number can be one that we gave.
func (t *tx) plausible(number int64) bool {
	return number > 0 && number <= t.now.Add(certctl.Day).UnixMicro()
}

// sending is a deployment on its way into a box.
type sending struct {
	work   certctl.InstallWork
	team   string
	number int64 // of the binding
	shared bool  // its key is another member's, or this one's
}

// sendInstalls puts the deployments into the boxes, marked as sent.
func (t *tx) sendInstalls(ctx context.Context, items []openItem, versions map[certctl.ID]certctl.Version,
	asking map[certctl.ID]*contact, boxes map[certctl.ID]*certctl.MailboxWork,
) error {
	ids, byID := idsOf(items, dueDeployment)
	if len(ids) == 0 {
		return nil
	}
	open, err := t.sendings(ctx, ids)
	if err == nil {
		err = t.addShared(ctx, open)
	}
	if err != nil {
		return err
	}
	if err := t.askNextKeys(ctx, open); err != nil {
		return err
	}
	var sent []*sending
	stale := map[certctl.ID]bool{} // certificates whose status may change
	for _, s := range open {
		d := &s.work.Deployment
		version, known := versions[d.Version]
		if s.shared && s.work.Shared.Holder.IsZero() {
			continue // its agent does not get the key before somebody has sealed it
		}
		if !known || d.State.Final() != byID[d.ID].lost {
			continue // it has moved on since it was found
		}
		if d.State != certctl.DeploymentPending && d.State != certctl.DeploymentInstalling {
			stale[d.Certificate] = true
		}
		leaf, err := certctl.ParseLeaf(version.Leaf)
		if err != nil {
			return err
		}
		s.work.Version, s.work.Names = version, leaf.Names
		t.address(s, asking[d.Agent], byID[d.ID].lost)
		boxes[d.Agent].Installs = append(boxes[d.Agent].Installs, s.work)
		sent = append(sent, s)
	}
	if err := t.markSent(ctx, sent); err != nil {
		return err
	}
	return t.refreshStatus(ctx, keysOf(stale)...)
}

// sendings locks and reads deployments of live bindings, in the order of the
// ids, which is that of urgency.
func (t *tx) sendings(ctx context.Context, ids []certctl.ID) ([]*sending, error) {
	rows, err := t.Query(ctx, `
		select d.id, d.certificate_id, d.binding_id, d.target_id, target.name, target.agent_id, d.version_id, d.state, d.tries, d.number,
			d.created_at, b.number, b.place, b.slot, b.created_at, c.name, team.name, h.sealed_key,
			h.kind = 'shared' and h.sealed_key is null
		from unnest($1::uuid[]) with ordinality as wanted(id, place) join deployment d on d.id = wanted.id
		join binding b on b.id = d.binding_id join target on target.id = d.target_id
		join certificate c on c.id = d.certificate_id join team on team.id = c.team_id join holder h on h.id = b.holder_id
		where b.unbound_at is null and h.version_id = d.version_id
		order by wanted.place for no key update of d`, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*sending, error) {
		s := &sending{}
		d, b := &s.work.Deployment, &s.work.Binding
		err := row.Scan(&d.ID, &d.Certificate, &d.Binding, &d.Target.ID, &d.Target.Name, &d.Agent, &d.Version, &d.State, &d.Tries,
			&s.work.Number, &d.CreatedAt, &s.number, &b.Place, &b.Slot, &b.CreatedAt, &s.work.Certificate, &s.team, &s.work.SealedKey, &s.shared)
		b.ID, b.Certificate, b.Target, b.Agent = d.Binding, d.Certificate, d.Target, d.Agent
		return s, err
	})
}

// address gives a deployment its number: the one that it was sent under while no
// answer has come, else the next one of its binding.
func (t *tx) address(s *sending, c *contact, lost bool) {
	d := &s.work.Deployment
	if d.State != certctl.DeploymentInstalling || s.work.Number == 0 || t.seen(c, d.Binding) > s.work.Number {
		s.work.Number = max(s.number+1, t.floor(c, d.Binding))
	}
	d.State, d.Wait, s.work.Binding.Number = certctl.DeploymentInstalling, certctl.WaitNone, max(s.number, s.work.Number)
	if lost {
		t.eventOutcome(s.team, certctl.AggregateCertificate, d.Certificate, certctl.EventDeploymentFailed, certctl.OutcomeFailure, map[string]any{
			"certificate": d.Certificate, "name": s.work.Certificate, "deployment": d.ID, "target": d.Target.ID, "binding": d.Binding,
			"version": d.Version, "code": "lost",
		})
	}
}

// markSent stores that deployments are being installed, under which numbers.
func (t *tx) markSent(ctx context.Context, sent []*sending) error {
	if len(sent) == 0 {
		return nil
	}
	n := len(sent)
	ids, bindings, numbers, rows := make([]certctl.ID, n), make([]certctl.ID, n), make([]int64, n), make([]dueRow, n)
	for i, s := range sent {
		d := s.work.Deployment
		ids[i], bindings[i], numbers[i] = d.ID, d.Binding, s.work.Number
		rows[i] = dueRow{kind: dueDeployment, id: d.ID, verb: certctl.HintBell, agent: d.Agent,
			urgency: certctl.UrgencyNow, at: t.now.Add(installReminder)}
	}
	if err := t.put(ctx, `
		update deployment d set state = 'installing', wait = '', number = new.number, updated_at = now()
		from unnest($1::uuid[], $2::bigint[]) as new(id, number)
		where d.id = new.id and (d.state <> 'installing' or d.number <> new.number)`, ids, numbers); err != nil {
		return err
	}
	if err := t.put(ctx, `
		update binding b set number = new.number from unnest($1::uuid[], $2::bigint[]) as new(id, number)
		where b.id = new.id and b.number < new.number`, bindings, numbers); err != nil {
		return err
	}
	return t.due(ctx, rows...)
}

// addTargets adds to the boxes the targets that their commands name.
func (t *tx) addTargets(ctx context.Context, boxes map[certctl.ID]*certctl.MailboxWork) error {
	ids := map[certctl.ID]bool{}
	for _, box := range boxes {
		for _, install := range box.Installs {
			ids[install.Binding.Target.ID] = true
		}
		for _, forget := range box.Forgets {
			ids[forget.Binding.Target.ID] = true
		}
		for _, test := range box.Tests {
			ids[test.Target.ID] = true
		}
	}
	if len(ids) == 0 {
		return nil
	}
	targets, err := t.targets(ctx, keysOf(ids))
	for _, target := range targets {
		if box := boxes[target.Agent.ID]; box != nil {
			box.Targets = append(box.Targets, target)
		}
	}
	return err
}
