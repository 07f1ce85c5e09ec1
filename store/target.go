package store

import (
	"context"
	"encoding/json"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// CreateTarget stores a new target on an agent. Whether its kind exists and its
// settings make sense is for the caller, and last of all for the node.
func (s *Store) CreateTarget(ctx context.Context, actor certctl.Actor, request certctl.TargetRequest) (certctl.Target, error) {
	if err := checkTarget(&request); err != nil {
		return certctl.Target{}, err
	}
	var target certctl.Target
	err := s.write(ctx, actor, func(t *tx) error {
		teamID, team, err := t.ownerTeam(ctx, request.Team)
		if err != nil {
			return err
		}
		if err := t.may(certctl.VerbCreate, certctl.ObjectTarget, found{team: team, labels: request.Labels}); err != nil {
			return err
		}
		agent, err := t.refer(ctx, certctl.VerbRead, certctl.ObjectAgent, team, "/agent", request.Agent)
		if err != nil {
			return err
		}
		id := certctl.NewID(t.now)
		if _, err := t.Exec(ctx, `
			insert into target (id, team_id, agent_id, name, kind, settings, labels) values ($1, $2, $3, $4, $5, $6::text::jsonb, $7)`,
			id, teamID, agent.id, request.Name, request.Kind, string(request.Settings), request.Labels); err != nil {
			return nameTaken(err, certctl.ObjectTarget, request.Name)
		}
		t.event(team, certctl.AggregateTarget, id, certctl.EventTargetCreated, map[string]any{
			"name": request.Name, "kind": request.Kind, "agent": agent.id,
		})
		target, err = t.target(ctx, id)
		return err
	})
	return target, err
}

// GetTarget returns one target, also an archived one by its id.
func (s *Store) GetTarget(ctx context.Context, actor certctl.Actor, ref string) (certctl.Target, error) {
	var target certctl.Target
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectTarget, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		if target, err = t.target(ctx, f.id); err == nil {
			target.Test, err = t.shownTest(ctx, f.id)
		}
		return err
	})
	return target, err
}

// ListTargets returns one page of the live targets that a filter selects.
func (s *Store) ListTargets(ctx context.Context, actor certctl.Actor, filter certctl.TargetFilter) (certctl.Page[certctl.Target], error) {
	var page certctl.Page[certctl.Target]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectTarget); err != nil {
			return err
		}
		c := &conditions{}
		c.add("o.archived_at is null")
		t.inTeam(c, "o.team_id", filter.Team)
		if filter.Agent != "" {
			agent, err := t.one(ctx, certctl.ObjectAgent, certctl.VerbRead, filter.Agent)
			if err != nil {
				return err
			}
			c.add("o.agent_id = ?", agent.id)
		}
		if filter.Kind != "" {
			c.add("o.kind = ?", filter.Kind)
		}
		ids, limit, err := t.listIDs(ctx, "target o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		targets, err := t.targets(ctx, ids)
		page = pageOf(targets, limit, func(x certctl.Target) certctl.ID { return x.ID })
		return err
	})
	return page, err
}

// UpdateTarget changes a target's name, settings and labels; agent and kind are
// fixed. New settings raise its revision, and everything bound to it is
// installed again.
func (s *Store) UpdateTarget(ctx context.Context, actor certctl.Actor, ref string, request certctl.TargetRequest) (certctl.Target, error) {
	var target certctl.Target
	err := s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectTarget, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		// Certificates are locked before what belongs to them.
		users, err := t.lockUsers(ctx, f.id)
		if err != nil {
			return err
		}
		raised, err := t.storeTarget(ctx, f, request)
		if err != nil {
			return err
		}
		if raised {
			if err := t.installAgain(ctx, f.id, users); err != nil {
				return err
			}
		}
		target, err = t.target(ctx, f.id)
		return err
	})
	return target, err
}

// lockUsers locks the certificates that are bound to a target.
func (t *tx) lockUsers(ctx context.Context, target certctl.ID) ([]certctl.ID, error) {
	var users []certctl.ID
	if err := t.QueryRow(ctx, `select array(select distinct certificate_id from binding where target_id = $1 and unbound_at is null)`,
		target).Scan(&users); err != nil {
		return nil, err
	}
	return users, t.lockCertificates(ctx, users...)
}

// storeTarget stores a change and says whether it raised the revision.
func (t *tx) storeTarget(ctx context.Context, f found, request certctl.TargetRequest) (raised bool, err error) {
	var agentID certctl.ID
	var archived bool
	kind, agent := "", ""
	if err := t.QueryRow(ctx, `
		select target.kind, target.archived_at is not null, agent.id, agent.name
		from target join agent on agent.id = target.agent_id where target.id = $1 for no key update of target`, f.id).
		Scan(&kind, &archived, &agentID, &agent); err != nil {
		return false, err
	}
	if archived {
		return false, isArchived(certctl.ObjectTarget, f.name)
	}
	if err := fixed(&request.Kind, kind, "/kind"); err != nil {
		return false, err
	}
	if canonicalRef(request.Agent) == agentID.String() {
		request.Agent = agent
	}
	if err := fixed(&request.Agent, agent, "/agent"); err != nil {
		return false, err
	}
	if err := checkTarget(&request); err != nil {
		return false, err
	}
	f.labels = request.Labels
	if err := t.may(certctl.VerbUpdate, certctl.ObjectTarget, f); err != nil {
		return false, err
	}
	var before, after int64
	err = t.QueryRow(ctx, `
		with old as (select revision from target where id = $1)
		update target set name = $2, labels = $4, updated_at = now(), settings = $3::text::jsonb,
			revision = revision + case when settings = $3::text::jsonb then 0 else 1 end
		where id = $1 returning (select revision from old), revision`,
		f.id, request.Name, string(request.Settings), request.Labels).Scan(&before, &after)
	if err != nil {
		return false, nameTaken(err, certctl.ObjectTarget, request.Name)
	}
	t.event(f.team, certctl.AggregateTarget, f.id, certctl.EventTargetUpdated, map[string]any{"name": request.Name, "revision": after})
	return after != before, nil
}

// installAgain makes the newest deployment of each of a target's bindings
// pending: the agent is to bring it there under the target's new settings.
func (t *tx) installAgain(ctx context.Context, target certctl.ID, users []certctl.ID) error {
	rows, err := t.Query(ctx, `
		update deployment d set state = 'pending', wait = '', tries = 0, updated_at = now()
		from binding b join holder h on h.id = b.holder_id
		where b.target_id = $1 and b.unbound_at is null and d.binding_id = b.id and d.version_id = h.version_id
		returning d.id, d.agent_id`, target)
	if err != nil {
		return err
	}
	if err := t.ringFor(ctx, dueDeployment, rows); err != nil {
		return err
	}
	var pending []certctl.ID
	if err := t.QueryRow(ctx, `
		select array(select d.id from binding b join deployment d on d.binding_id = b.id
			where b.target_id = $1 and b.unbound_at is null and d.state = 'pending' order by d.id)`, target).Scan(&pending); err != nil {
		return err
	}
	if err := t.awaitKeys(ctx, pending...); err != nil {
		return err
	}
	return t.refreshStatus(ctx, users...)
}

// ArchiveTarget ends a target; Conflict while certificates are bound to it.
func (s *Store) ArchiveTarget(ctx context.Context, actor certctl.Actor, ref string) error {
	return s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectTarget, certctl.VerbDelete, ref)
		if err != nil {
			return err
		}
		// Nobody binds to the row while it is locked.
		if err := t.put(ctx, `select from target where id = $1 for update`, f.id); err != nil {
			return err
		}
		var users int
		var example string
		if err := t.QueryRow(ctx, `
			select count(*), coalesce(min(c.name), '') from binding b join certificate c on c.id = b.certificate_id
			where b.target_id = $1 and b.unbound_at is null`, f.id).Scan(&users, &example); err != nil {
			return err
		}
		if users > 0 {
			return certctl.Errorf(certctl.Conflict, "%d certificates are bound to the target %s, among them %s", users, f.name, example).
				WithRemedy("unbind them first")
		}
		tag, err := t.Exec(ctx, `update target set archived_at = now(), updated_at = now() where id = $1 and archived_at is null`, f.id)
		if err == nil && tag.RowsAffected() > 0 {
			t.event(f.team, certctl.AggregateTarget, f.id, certctl.EventTargetArchived, map[string]any{"name": f.name})
		}
		return err
	})
}

// checkTarget refuses what no target can be, and fills in what is left out.
func checkTarget(request *certctl.TargetRequest) error {
	var bad certctl.FieldErrors
	bad.AddError("/name", certctl.CheckObjectName(request.Name))
	bad.AddError("/settings", asObject(&request.Settings))
	bad.AddError("", certctl.CheckLabels(request.Labels))
	if request.Kind == "" {
		bad.Add("/kind", "is missing")
	}
	if request.Agent == "" {
		bad.Add("/agent", "is missing")
	}
	if request.Labels == nil {
		request.Labels = map[string]string{}
	}
	return bad.Err()
}

func (t *tx) target(ctx context.Context, id certctl.ID) (certctl.Target, error) {
	targets, err := t.targets(ctx, []certctl.ID{id})
	if err == nil && len(targets) == 0 {
		err = notFound(certctl.ObjectTarget, id.String())
	}
	if err != nil {
		return certctl.Target{}, err
	}
	return targets[0], nil
}

// targets reads targets in the order of the ids.
func (t *tx) targets(ctx context.Context, ids []certctl.ID) ([]certctl.Target, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := t.Query(ctx, `
		select x.id, team.name, agent.id, agent.name, x.name, x.kind, x.settings, x.revision, x.labels,
			x.created_at, x.updated_at, x.archived_at
		from target x join team on team.id = x.team_id join agent on agent.id = x.agent_id where x.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (x certctl.Target, err error) {
		var settings []byte
		err = row.Scan(&x.ID, &x.Team, &x.Agent.ID, &x.Agent.Name, &x.Name, &x.Kind, &settings, &x.Revision, &x.Labels,
			&x.CreatedAt, &x.UpdatedAt, &x.ArchivedAt)
		x.Settings = json.RawMessage(settings)
		return x, err
	})
	read := make(map[certctl.ID]certctl.Target, len(all))
	for _, x := range all {
		read[x.ID] = x
	}
	return inOrder(ids, read), err
}
