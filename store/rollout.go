package store

import (
	"context"

	"github.com/certctl/certctl"
)

// CreateRollout plans the mass change that a request asks for and begins it, or
// with DryRun only plans it. What the selection finds at that moment becomes its
// items, all of it in one statement; what is done with each is in its state, so
// that any crash costs time only.
func (s *Store) CreateRollout(ctx context.Context, actor certctl.Actor, request certctl.RolloutRequest, idem certctl.Idempotency) (certctl.Rollout, error) {
	var rollout certctl.Rollout
	err := s.write(ctx, actor, func(t *tx) error {
		if err := request.Complete(t.now); err != nil {
			return err
		}
		id := certctl.NewID(t.now)
		if !request.DryRun {
			first, err := t.once(ctx, idem, id)
			if err != nil {
				return err
			}
			if !first.id.IsZero() {
				rollout, err = t.rollout(ctx, first.id)
				return err
			}
		}
		rollout = t.rolloutOf(id, request)
		if err := t.mayRoll(ctx, rollout); err != nil {
			return err
		}
		if request.DryRun {
			return t.dryRollout(ctx, &rollout)
		}
		if err := t.beginRollout(ctx, rollout); err != nil {
			return err
		}
		var err error
		rollout, err = t.rollout(ctx, id)
		return err
	})
	return rollout, err
}

func (t *tx) rolloutOf(id certctl.ID, request certctl.RolloutRequest) certctl.Rollout {
	return certctl.Rollout{
		ID: id, State: certctl.RolloutRunning, Selection: request.Selection, Reason: certctl.Clip(request.Reason, 1000),
		Override: certctl.Clip(request.Override, 1000), Revoke: request.Revoke, Replace: request.Replace, Deadline: request.Deadline,
		Pace: request.Pace, Team: orElse(t.actor.Principal.Team, request.Selection.Team), Creator: t.actor.Principal.Name,
		CreatedAt: t.now, UpdatedAt: t.now,
	}
}

// Parts of the statements that select. What is replaceable is held now, of a
// certificate that somebody issues.
const (
	selectable  = `version v join holder h on h.id = v.holder_id join certificate c on c.id = v.certificate_id`
	replaceable = `(h.version_id = v.id and h.ended_at is null and c.archived_at is null and c.issuers <> '{}')`
)

// selection turns what a rollout is about into clauses. A mass change is about
// what is held; a revocation about every version that is good. With a compromise
// it is about all that have one of the keys.
func (t *tx) selection(ctx context.Context, r certctl.Rollout) (*conditions, error) {
	c := &conditions{}
	if err := t.selects(ctx, c, r.Selection); err != nil {
		return nil, err
	}
	if r.Revoke == certctl.ReasonKeyCompromise {
		*c = conditions{args: c.args, clauses: []string{"v.spki in (select v.spki from " + selectable + " where " + c.String() + ")"}}
	}
	t.inTeam(c, "c.team_id", r.Selection.Team)
	c.add("c.purpose = 'user'")
	if r.Revoke == "" {
		c.add(replaceable + " and not c.paused")
		return c, nil
	}
	c.add("v.revoked_at is null and v.not_after > now()")
	if r.Replace == certctl.ReplaceBefore {
		c.add("not exists (select from revocation where version_id = v.id and state = 'waiting')")
	}
	return c, nil
}

func (t *tx) selects(ctx context.Context, c *conditions, s certctl.Selection) error {
	t.inTeam(c, "c.team_id", s.Team)
	for _, ref := range []struct {
		kind   certctl.ObjectKind
		name   string
		clause string
	}{
		{certctl.ObjectIssuer, s.Issuer, "v.issuer_id = ?"},
		{certctl.ObjectProfile, s.Profile, "c.profile_id = ?"},
		{certctl.ObjectCertificate, s.Certificate, "c.id = ?"},
		{certctl.ObjectAgent, s.Agent, `h.id in (select h.id from holder h where h.agent_id = ?
			union select b.holder_id from binding b join target on target.id = b.target_id where target.agent_id = ? and b.unbound_at is null)`},
	} {
		if ref.name == "" {
			continue
		}
		f, err := t.one(ctx, ref.kind, certctl.VerbRead, ref.name)
		if err != nil {
			return err
		}
		args := []any{f.id}
		if ref.kind == certctl.ObjectAgent {
			args = append(args, f.id)
		}
		c.add(ref.clause, args...)
	}
	if !s.Authority.IsZero() {
		c.add("v.authority_id = ?", s.Authority)
	}
	if len(s.Label) > 0 {
		c.add("c.labels @> ?", s.Label)
	}
	if len(s.Serials) > 0 {
		serials := make([]string, len(s.Serials))
		for i, serial := range s.Serials {
			serials[i] = string(serial)
		}
		c.add("v.serial = any(?)", serials)
	}
	if !s.IssuedBefore.IsZero() {
		c.add("v.not_before < ?", s.IssuedBefore)
	}
	return nil
}

// mayRoll authorises the actor for everything that is selected, and refuses what
// a freeze holds.
func (t *tx) mayRoll(ctx context.Context, r certctl.Rollout) error {
	if err := t.may(r.Verb(), certctl.ObjectCertificate, found{team: t.actor.Principal.Team}); err != nil {
		return err
	}
	c, err := t.selection(ctx, r)
	if err != nil {
		return err
	}
	var teams []string
	if err := t.QueryRow(ctx, `select array(select distinct team.name from `+selectable+` join team on team.id = c.team_id where `+c.String()+`)`,
		c.args...).Scan(&teams); err != nil {
		return err
	}
	for _, team := range teams {
		if err := t.may(r.Verb(), certctl.ObjectCertificate, found{team: team}); err != nil {
			return err
		}
	}
	return t.rolloutFrozen(ctx, r)
}

// rolloutFrozen refuses to replace what a freeze holds, unless the request says
// why it must be. A compromised key does not wait.
func (t *tx) rolloutFrozen(ctx context.Context, r certctl.Rollout) error {
	if r.Override != "" || r.Replace == certctl.ReplaceNo || r.Revoke == certctl.ReasonKeyCompromise {
		return nil
	}
	freezes, err := t.freezes(ctx)
	if err != nil {
		return err
	}
	for _, f := range freezes {
		if !f.Covers(f.Labels, t.now) {
			continue
		}
		c, err := t.selection(ctx, r)
		if err != nil {
			return err
		}
		if len(f.Labels) > 0 {
			c.add("c.labels @> ?", f.Labels)
		}
		n := 0
		if err := t.QueryRow(ctx, `select count(*) from `+selectable+` where `+c.String(), c.args...).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return certctl.Errorf(certctl.Conflict, "the freeze %s holds %d of what is selected", f.Name, n).
				WithRemedy("wait for its end, or say in override (certctl: --override) why it cannot wait")
		}
	}
	return nil
}

// dryRollout plans without recording anything.
func (t *tx) dryRollout(ctx context.Context, r *certctl.Rollout) error {
	c, err := t.selection(ctx, *r)
	if err != nil {
		return err
	}
	replaced := 0
	if err := t.QueryRow(ctx, `select count(*), count(*) filter (where `+replaceable+`) from `+selectable+` where `+c.String(), c.args...).
		Scan(&r.Total, &replaced); err != nil {
		return err
	}
	r.ID = certctl.NoID
	if r.Replace == certctl.ReplaceNo {
		replaced = 0
	}
	r.Plan, err = certctl.PlanRollout(replaced, r.Pace, t.now, r.Deadline)
	for _, n := range r.Plan.Waves {
		r.Waves = append(r.Waves, certctl.RolloutWave{Items: n, Pending: n})
	}
	return err
}

// beginRollout records a rollout with its items. Those that are replaced have the
// first places, in an order that says nothing about them.
func (t *tx) beginRollout(ctx context.Context, r certctl.Rollout) error {
	if err := t.put(ctx, `
		insert into rollout (id, team_id, state, selection, reason, override, revoke_reason, replace, deadline, pace, released_at, creator, requester_id)
		values ($1, (select id from team where name = nullif($2, '')), 'running', $3, $4, $5, $6, $7, $8, $9, now(), $10, $11)`,
		r.ID, r.Team, r.Selection, r.Reason, r.Override, string(r.Revoke), string(r.Replace), r.Deadline, r.Pace, r.Creator, t.actor.Principal.ID); err != nil {
		return err
	}
	c, err := t.selection(ctx, r)
	if err != nil {
		return err
	}
	state := "pending"
	if r.Revoke != "" {
		state = "selected"
	}
	where := c.String()
	args := append(c.args[:len(c.args):len(c.args)], r.ID, state)
	c.args = args
	replaced := 0
	if err := t.QueryRow(ctx, `
		with chosen as materialized (
			select v.id, v.certificate_id, v.holder_id, `+replaceable+` as replaceable,
				row_number() over (order by `+replaceable+` desc, md5(v.id::text)) as place
			from `+selectable+` where `+where+`),
		made as (
			insert into rollout_item (rollout_id, place, certificate_id, holder_id, version_id, state)
			select `+c.last(2)+`, place, certificate_id, holder_id, id, `+c.last(1)+` from chosen)
		select count(*), count(*) filter (where replaceable) from chosen`, args...).Scan(&r.Total, &replaced); err != nil {
		return err
	}
	if r.Total == 0 {
		return certctl.Errorf(certctl.Conflict, "there is nothing that the selection finds")
	}
	if r.Replace == certctl.ReplaceNo {
		replaced = 0
	}
	if r.Plan, err = certctl.PlanRollout(replaced, r.Pace, t.now, r.Deadline); err != nil {
		return err
	}
	return t.startRollout(ctx, r)
}

// startRollout blocks the keys of a compromise, and makes the rollout due.
func (t *tx) startRollout(ctx context.Context, r certctl.Rollout) error {
	if err := t.put(ctx, `update rollout set total = $2, plan = $3 where id = $1`, r.ID, r.Total, r.Plan); err != nil {
		return err
	}
	if r.Revoke == certctl.ReasonKeyCompromise {
		if err := t.put(ctx, `
			insert into blocked_key (spki, reason)
			select distinct v.spki, $2 from rollout_item i join version v on v.id = i.version_id where i.rollout_id = $1
			on conflict do nothing`, r.ID, string(r.Revoke)); err != nil {
			return err
		}
	}
	t.event(teamOf(r.Team), certctl.AggregateRollout, r.ID, certctl.EventRolloutCreated, map[string]any{
		"rollout": r.ID, "items": r.Total, "replaced": r.Plan.Size(), "waves": len(r.Plan.Waves), "deadline": r.Deadline, "reason": r.Revoke, "replace": r.Replace,
	})
	t.hint(certctl.HintRollout, certctl.NoLane, r.ID)
	return t.due(ctx, rolloutDue(r.ID, t.now.Add(agentReminder)))
}
