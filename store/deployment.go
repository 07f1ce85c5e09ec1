package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// deploymentSpec asks for a version on a binding.
type deploymentSpec struct {
	certificate, binding, target, agent, version certctl.ID
}

// newDeployments makes deployments that their agents are to carry out now, with
// their due rows, and rings the agents. A version that already has one on a
// binding is brought there again.
func (t *tx) newDeployments(ctx context.Context, specs []deploymentSpec) error {
	made, err := t.insertDeployments(ctx, specs)
	if err != nil {
		return err
	}
	return t.release(ctx, made, nil)
}

// madeDeployments are deployments that nobody looks at yet, with their agents.
type madeDeployments struct{ ids, agents []certctl.ID }

func (t *tx) insertDeployments(ctx context.Context, specs []deploymentSpec) (made madeDeployments, err error) {
	if len(specs) == 0 {
		return made, nil
	}
	n := len(specs)
	ids, certificates, bindings := make([]certctl.ID, n), make([]certctl.ID, n), make([]certctl.ID, n)
	targets, agents, versions := make([]certctl.ID, n), make([]certctl.ID, n), make([]certctl.ID, n)
	for i, s := range specs {
		ids[i], certificates[i], bindings[i] = certctl.NewID(t.now).WithOrder(i), s.certificate, s.binding
		targets[i], agents[i], versions[i] = s.target, s.agent, s.version
	}
	rows, err := t.Query(ctx, `
		insert into deployment as d (id, certificate_id, binding_id, target_id, agent_id, version_id, state)
		select id, certificate, binding, target, agent, version, 'pending'
		from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[])
			as new(id, certificate, binding, target, agent, version)
		on conflict (binding_id, version_id) do update set state = 'pending', wait = '', tries = 0, updated_at = now()
		returning d.id, d.agent_id`, ids, certificates, bindings, targets, agents, versions)
	if err != nil {
		return made, err
	}
	var id, agent certctl.ID
	_, err = pgx.ForEachRow(rows, []any{&id, &agent}, func() error {
		made.ids, made.agents = append(made.ids, id), append(made.agents, agent)
		return nil
	})
	return made, err
}

// release makes deployments due: now, with a bell for their agents, or when what
// holds them back ends.
func (t *tx) release(ctx context.Context, made madeDeployments, held map[certctl.ID]heldUntil) error {
	agents := map[certctl.ID]bool{}
	rows := make([]dueRow, len(made.ids))
	for i, id := range made.ids {
		rows[i] = dueRow{kind: dueDeployment, id: id, verb: certctl.HintBell, agent: made.agents[i],
			urgency: certctl.UrgencyNow, at: t.now.Add(agentReminder)}
		if _, waits := held[id]; !waits {
			agents[made.agents[i]] = true
		}
	}
	t.ring(agents)
	if err := t.due(ctx, rows...); err != nil {
		return err
	}
	if err := t.holdBack(ctx, held); err != nil {
		return err
	}
	return t.awaitKeys(ctx, made.ids...)
}

// ringFor makes rows of (id, agent) due, and rings the agents at once.
func (t *tx) ringFor(ctx context.Context, kind string, rows pgx.Rows) error {
	var id, agent certctl.ID
	var due []dueRow
	agents := map[certctl.ID]bool{}
	_, err := pgx.ForEachRow(rows, []any{&id, &agent}, func() error {
		agents[agent] = true
		due = append(due, dueRow{kind: kind, id: id, verb: certctl.HintBell, agent: agent,
			urgency: certctl.UrgencyNow, at: t.now.Add(agentReminder)})
		return nil
	})
	if err != nil {
		return err
	}
	t.ring(agents)
	return t.due(ctx, due...)
}

// endDeployments ends the unfinished deployments of bindings: something else
// takes their place, or nothing does.
func (t *tx) endDeployments(ctx context.Context, bindings ...certctl.ID) error {
	rows, err := t.Query(ctx, `
		update deployment set state = 'superseded', wait = '', updated_at = now()
		where binding_id = any($1) and state = any('{pending,installing,rolled_back,failed}') returning id`, bindings)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	if err != nil {
		return err
	}
	return t.done(ctx, dueDeployment, ids...)
}

// ListDeployments returns one page of the deployments that a filter selects,
// newest first.
func (s *Store) ListDeployments(ctx context.Context, actor certctl.Actor, filter certctl.DeploymentFilter) (certctl.Page[certctl.Deployment], error) {
	var page certctl.Page[certctl.Deployment]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectCertificate); err != nil {
			return err
		}
		c := &conditions{}
		if err := t.deploymentConditions(ctx, c, filter); err != nil {
			return err
		}
		ids, limit, err := t.listIDs(ctx, "deployment o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		deployments, err := t.deployments(ctx, ids)
		page = pageOf(deployments, limit, func(d certctl.Deployment) certctl.ID { return d.ID })
		return err
	})
	return page, err
}

func (t *tx) deploymentConditions(ctx context.Context, c *conditions, f certctl.DeploymentFilter) error {
	if f.State != "" {
		c.add("o.state = ?", string(f.State))
	}
	if f.Target != "" {
		target, err := t.one(ctx, certctl.ObjectTarget, certctl.VerbRead, f.Target)
		if err != nil {
			return err
		}
		// A target has one agent for ever, and deployments are indexed by agent.
		c.add("o.agent_id = (select agent_id from target where id = ?)", target.id)
		c.add("o.target_id = ?", target.id)
	}
	if f.Agent != "" {
		agent, err := t.one(ctx, certctl.ObjectAgent, certctl.VerbRead, f.Agent)
		if err != nil {
			return err
		}
		c.add("o.agent_id = ?", agent.id)
	}
	return t.belonging(ctx, c, f.Certificate, f.Team)
}

// deployments reads deployments with their due times, in the order of the ids.
func (t *tx) deployments(ctx context.Context, ids []certctl.ID) ([]certctl.Deployment, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := t.Query(ctx, `select `+deploymentColumns+`
		from deployment d join target on target.id = d.target_id left join due on due.kind = 'deployment' and due.id = d.id
		where d.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, scanDeployment)
	read := make(map[certctl.ID]certctl.Deployment, len(all))
	for _, d := range all {
		read[d.ID] = d
	}
	return inOrder(ids, read), err
}

// deploymentColumns are what scanDeployment reads, of deployment d, target and due.
const deploymentColumns = `d.id, d.certificate_id, d.binding_id, d.target_id, target.name, d.agent_id, d.version_id, d.state,
	d.wait, d.reason, d.message, d.tries, due.due_at, d.receipt, d.verified_at, d.created_at, d.updated_at`

func scanDeployment(row pgx.CollectableRow) (d certctl.Deployment, err error) {
	return d, row.Scan(&d.ID, &d.Certificate, &d.Binding, &d.Target.ID, &d.Target.Name, &d.Agent, &d.Version, &d.State,
		&d.Wait, &d.Reason, &d.Message, &d.Tries, &d.DueAt, &d.Receipt, &d.VerifiedAt, &d.CreatedAt, &d.UpdatedAt)
}

// RetryDeployment tries a deployment again now instead of when its wait ends.
func (s *Store) RetryDeployment(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Deployment, error) {
	var deployment certctl.Deployment
	err := s.write(ctx, actor, func(t *tx) error {
		d, err := t.lockDeployment(ctx, id)
		if err != nil {
			return err
		}
		if d.State.Final() {
			return certctl.Errorf(certctl.Conflict, "this deployment is %s: there is nothing to try again", d.State)
		}
		rows, err := t.Query(ctx, `
			update deployment set state = 'pending', wait = '', updated_at = now() where id = $1 returning id, agent_id`, id)
		if err != nil {
			return err
		}
		if err := t.ringFor(ctx, dueDeployment, rows); err != nil {
			return err
		}
		if err := t.awaitKeys(ctx, id); err != nil {
			return err
		}
		if err := t.refreshStatus(ctx, d.Certificate); err != nil {
			return err
		}
		all, err := t.deployments(ctx, []certctl.ID{id})
		if err == nil {
			deployment = all[0]
		}
		return err
	})
	return deployment, err
}

// lockDeployment locks a deployment and its certificate for somebody who may
// change the certificate.
func (t *tx) lockDeployment(ctx context.Context, id certctl.ID) (certctl.Deployment, error) {
	var d certctl.Deployment
	if err := t.QueryRow(ctx, `select certificate_id from deployment where id = $1`, id).Scan(&d.Certificate); err != nil {
		return d, orNotFound(err, "deployment", id)
	}
	_, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbUpdate, d.Certificate.String())
	if certctl.ErrorCode(err) == certctl.NotFound {
		err = notFound("deployment", id.String())
	}
	if err == nil {
		err = t.lockCertificates(ctx, d.Certificate)
	}
	if err != nil {
		return d, err
	}
	err = t.QueryRow(ctx, `select state from deployment where id = $1 for no key update`, id).Scan(&d.State)
	return d, err
}
