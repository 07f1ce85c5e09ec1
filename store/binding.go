package store

import (
	"context"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// BindTarget installs a certificate on one more target. An agent that holds a
// key of it installs its current version; another one becomes a holder, makes a
// key and gets an order of its own.
func (s *Store) BindTarget(ctx context.Context, actor certctl.Actor, ref string, request certctl.BindingRequest) (certctl.Certificate, error) {
	var certificate certctl.Certificate
	err := s.submitting(ctx, actor, func(t *tx) error {
		h, err := t.hold(ctx, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		b, err := t.planNewBinding(ctx, h, request)
		if err != nil {
			return err
		}
		if err := t.bind(ctx, h, b); err != nil {
			return err
		}
		t.event(h.team, certctl.AggregateCertificate, h.id, certctl.EventCertificateBound, map[string]any{
			"certificate": h.id, "name": h.name, "target": b.target.id, "place": b.place, "slot": b.slot,
		})
		if err := t.refreshStatus(ctx, h.id); err != nil {
			return err
		}
		certificate, err = t.certificate(ctx, h.id)
		return err
	})
	return certificate, err
}

// planNewBinding checks a request to bind.
func (t *tx) planNewBinding(ctx context.Context, h *held, request certctl.BindingRequest) (plannedBinding, error) {
	target, err := t.refer(ctx, certctl.VerbUpdate, certctl.ObjectTarget, h.team, "/target", request.Target)
	if err != nil {
		return plannedBinding{}, err
	}
	if h.keyMode == certctl.KeyModeCSR {
		return plannedBinding{}, certctl.Errorf(certctl.Conflict, "the client keeps the key of %s, so there is nothing that a target could be given", h.name).
			WithRemedy("submit a certificate with key mode agent for this target")
	}
	targets, err := t.withAgents(ctx, map[string]found{request.Target: target})
	if err != nil {
		return plannedBinding{}, err
	}
	b, err := planBinding(request, h.name, targets[target.id])
	if err != nil {
		return b, err
	}
	at := spot{b.target.id, b.place, b.slot}
	taken, err := t.takenSpots(ctx, map[spot]string{at: ""})
	if user, ok := taken[at]; ok {
		return b, spotConflict("/target", b, user)
	}
	b.id = certctl.NewID(t.now)
	if err != nil {
		return b, err
	}
	return b, t.checkSharing(ctx, h, b.target.agent)
}

// bind stores a binding with its holder, and what makes it served: a deployment
// of what the holder has, or an order.
func (t *tx) bind(ctx context.Context, h *held, b plannedBinding) error {
	if err := t.chooseAgain(ctx, h, b.target.agent); err != nil {
		return err
	}
	holder, err := t.holderFor(ctx, h, b.target.agent)
	if err != nil {
		return err
	}
	if err := t.put(ctx, `
		insert into binding (id, certificate_id, target_id, holder_id, place, slot) values ($1, $2, $3, $4, $5, $6)`,
		b.id, h.id, b.target.id, holder.id, b.place, string(b.slot)); err != nil {
		return err
	}
	var usable bool
	if err := t.QueryRow(ctx, `select exists (select from version where id = $1 and revoked_at is null and not_after > now())`,
		holder.version).Scan(&usable); err != nil {
		return err
	}
	if usable {
		return t.newDeployments(ctx, []deploymentSpec{{h.id, b.id, b.target.id, b.target.agent, holder.version}})
	}
	_, err = t.newOrders(ctx, []orderSpec{{Certificate: h.id, Holder: holder.id, Origin: certctl.OriginAPI,
		Urgency: certctl.UrgencyNow, Reason: "bound"}})
	return err
}

// holderFor returns who holds the key for an agent's bindings: the client with
// an imported key, all agents together, else the agent. An agent that held a key before begins anew:
// what it let go of is not counted on.
func (t *tx) holderFor(ctx context.Context, h *held, agent certctl.ID) (heldHolder, error) {
	if h.keyMode == certctl.KeyModeImported {
		return h.holders[0], nil
	}
	if h.sharing == certctl.SharingShared {
		holder, err := t.sharedHolder(ctx, h)
		if err != nil {
			return holder, err
		}
		return holder, t.join(ctx, []certctl.ID{holder.id}, []certctl.ID{agent})
	}
	if holder := h.holderOf(agent); holder != nil {
		return *holder, nil
	}
	holder := heldHolder{kind: certctl.HolderAgent, agent: agent}
	err := t.QueryRow(ctx, `
		insert into holder (id, certificate_id, kind, agent_id) values ($1, $2, 'agent', $3)
		on conflict (certificate_id, kind, agent_id) do update set ended_at = null, version_id = null, sealed_key = null
		returning id`, certctl.NewID(t.now), h.id, agent).Scan(&holder.id)
	return holder, err
}

// UnbindTarget stops installing a certificate on a target, wherever it is there.
// The files stay as they are served, or are removed once nothing names them. An
// agent's holder ends with its last binding, and its open order with it.
func (s *Store) UnbindTarget(ctx context.Context, actor certctl.Actor, ref, target string, remove bool) (certctl.Certificate, error) {
	var certificate certctl.Certificate
	err := s.write(ctx, actor, func(t *tx) error {
		h, err := t.hold(ctx, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		f, err := t.one(ctx, certctl.ObjectTarget, certctl.VerbUpdate, target)
		if err != nil {
			return err
		}
		bindings := slices.DeleteFunc(slices.Clone(h.bindings), func(b heldBinding) bool { return b.target != f.id })
		if len(bindings) == 0 {
			return certctl.Errorf(certctl.NotFound, "%s is not bound to the target %s", h.name, f.name)
		}
		if err := t.unbind(ctx, h, bindings, remove); err != nil {
			return err
		}
		if err := t.refreshStatus(ctx, h.id); err != nil {
			return err
		}
		certificate, err = t.certificate(ctx, h.id)
		return err
	})
	return certificate, err
}

// unbind ends bindings of a held certificate, and the agents' holders that have
// none left.
func (t *tx) unbind(ctx context.Context, h *held, bindings []heldBinding, remove bool) error {
	ids, users := make([]certctl.ID, len(bindings)), map[certctl.ID]int{}
	for _, b := range h.bindings {
		users[b.holder]++
	}
	for i, b := range bindings {
		ids[i] = b.id
		users[b.holder]--
		t.event(h.team, certctl.AggregateCertificate, h.id, certctl.EventCertificateUnbound, map[string]any{
			"certificate": h.id, "name": h.name, "target": b.target, "remove": remove,
		})
	}
	if err := t.endDeployments(ctx, ids...); err != nil {
		return err
	}
	if err := t.letGo(ctx, ids, remove); err != nil {
		return err
	}
	var ended []certctl.ID
	for _, holder := range h.holders {
		left, had := users[holder.id]
		switch {
		case holder.kind == certctl.HolderClient || !had:
		case left == 0:
			ended = append(ended, holder.id)
		case holder.kind == certctl.HolderShared:
			if err := t.part(ctx, holder.id); err != nil {
				return err
			}
		}
	}
	return t.endHolders(ctx, h, ended)
}

// letGo marks bindings as unbound and asks their agents to forget them. An agent
// that never got a command for one, or that is retired, has nothing to forget.
func (t *tx) letGo(ctx context.Context, bindings []certctl.ID, remove bool) error {
	rows, err := t.Query(ctx, `
		with gone as (
			update binding b set unbound_at = now(), remove = $2,
				forgotten_at = case when b.number = 0 or agent.state = 'retired' then now() end
			from target join agent on agent.id = target.agent_id
			where b.id = any($1) and target.id = b.target_id
			returning b.id, agent.id as agent_id, b.forgotten_at)
		select id, agent_id from gone where forgotten_at is null`, bindings, remove)
	if err != nil {
		return err
	}
	return t.ringFor(ctx, dueBinding, rows)
}

// endHolders ends holders of a held certificate with their open orders.
func (t *tx) endHolders(ctx context.Context, h *held, holders []certctl.ID) error {
	if len(holders) == 0 {
		return nil
	}
	live, err := t.liveOrders(ctx, h.id)
	if err != nil {
		return err
	}
	live = slices.DeleteFunc(live, func(o liveOrder) bool { return !slices.Contains(holders, o.holder) })
	if err := t.cancelOrders(ctx, h.team, "no longer bound", live); err != nil {
		return err
	}
	if err := t.put(ctx, `update holder set ended_at = now() where id = any($1)`, holders); err != nil {
		return err
	}
	if err := t.endMembers(ctx, holders); err != nil {
		return err
	}
	if err := t.forgetNextKeys(ctx, holders...); err != nil {
		return err
	}
	if err := t.done(ctx, dueAlert, holders...); err != nil {
		return err
	}
	return t.done(ctx, dueHolder, holders...)
}

// adopt gives certificates with imported keys, which are about to be renewed,
// keys that are made where they are used: by the agents of their targets, the
// first of which takes the import's holder over, with its history; or by the
// client, where there is no target. It returns the orders that are then wanted.
func (t *tx) adopt(ctx context.Context, specs []orderSpec) ([]orderSpec, error) {
	ids := make([]certctl.ID, len(specs))
	for i, spec := range specs {
		ids[i] = spec.Certificate
	}
	rows, err := t.Query(ctx, `select id from certificate where id = any($1) and key_mode = 'imported' order by id for no key update`, ids)
	if err != nil {
		return nil, err
	}
	imported, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	if err != nil || len(imported) == 0 {
		return specs, err
	}
	var out []orderSpec
	for _, spec := range specs {
		if !slices.Contains(imported, spec.Certificate) {
			out = append(out, spec)
			continue
		}
		holders, err := t.adoptOne(ctx, spec)
		if err != nil {
			return nil, err
		}
		for _, holder := range holders {
			spec.Holder = holder
			out = append(out, spec)
		}
	}
	return out, nil
}

// adoptOne is adopt for one certificate; it returns its holders.
func (t *tx) adoptOne(ctx context.Context, spec orderSpec) ([]certctl.ID, error) {
	h := &held{found: found{id: spec.Certificate}}
	if err := t.holdBindings(ctx, h); err != nil {
		return nil, err
	}
	if shared, err := t.adoptShared(ctx, h, spec); err != nil || shared {
		return []certctl.ID{spec.Holder}, err
	}
	mode, holders := certctl.KeyModeCSR, map[certctl.ID]certctl.ID{}
	for _, b := range h.bindings {
		mode = certctl.KeyModeAgent
		holder, known := holders[b.agent]
		switch {
		case known:
		case len(holders) == 0:
			holder = spec.Holder
			if err := t.put(ctx, `update holder set kind = 'agent', agent_id = $2 where id = $1`, holder, b.agent); err != nil {
				return nil, err
			}
		default:
			holder = certctl.NewID(t.now)
			if err := t.put(ctx, `insert into holder (id, certificate_id, kind, agent_id) values ($1, $2, 'agent', $3)`,
				holder, spec.Certificate, b.agent); err != nil {
				return nil, err
			}
		}
		holders[b.agent] = holder
		if err := t.put(ctx, `update binding set holder_id = $2 where id = $1`, b.id, holder); err != nil {
			return nil, err
		}
	}
	var team string
	err := t.QueryRow(ctx, `
		update certificate c set key_mode = $2, sharing = case when $2 = 'agent' then 'per_agent' else '' end, updated_at = now()
		from team where c.id = $1 and team.id = c.team_id returning team.name`, spec.Certificate, string(mode)).Scan(&team)
	t.event(team, certctl.AggregateCertificate, spec.Certificate, certctl.EventCertificateUpdated, map[string]any{
		"certificate": spec.Certificate, "changed": []string{"key_mode"}, "key_mode": mode,
	})
	if len(holders) == 0 {
		return []certctl.ID{spec.Holder}, err
	}
	out := make([]certctl.ID, 0, len(holders))
	for _, holder := range holders {
		out = append(out, holder)
	}
	return out, err
}
