package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// codeDrift is the reason of a deployment whose files were changed by others.
const codeDrift = "drift"

// noteDrift records how the files of deployments differ from what was installed,
// with an event for each that did not before, and which of them do no more. It
// returns those that are to be installed again.
func (t *tx) noteDrift(ctx context.Context, drifted []openItem, mended []certctl.ID) (repair []openItem, err error) {
	if len(mended) > 0 {
		if err := t.put(ctx, `
			update deployment set reason = '', message = '' where id = any($1) and reason = $2`, mended, codeDrift); err != nil {
			return nil, err
		}
	}
	if len(drifted) == 0 {
		return nil, nil
	}
	ids, byID := idsOf(drifted, dueDeployment)
	rows, err := t.Query(ctx, `
		select d.id, d.certificate_id, c.name, team.name, d.target_id, d.binding_id, d.version_id, d.reason, coalesce(p.body->>'drift', '')
		from deployment d join certificate c on c.id = d.certificate_id join team on team.id = c.team_id
		join renewal_policy p on p.id = c.policy_id where d.id = any($1) order by d.id`, ids)
	if err != nil {
		return nil, err
	}
	var d certctl.Deployment
	var name, team string
	var action certctl.DriftAction
	var fresh []certctl.ID
	var how []string
	_, err = pgx.ForEachRow(rows, []any{&d.ID, &d.Certificate, &name, &team, &d.Target.ID, &d.Binding, &d.Version, &d.Reason, &action}, func() error {
		if action != certctl.DriftReport {
			repair = append(repair, byID[d.ID])
		}
		if d.Reason == codeDrift {
			return nil
		}
		fresh, how = append(fresh, d.ID), append(how, certctl.Clip(byID[d.ID].drift, 500))
		t.eventOutcome(team, certctl.AggregateCertificate, d.Certificate, certctl.EventDeploymentDrifted, certctl.OutcomeFailure, map[string]any{
			"certificate": d.Certificate, "name": name, "deployment": d.ID, "target": d.Target.ID, "binding": d.Binding, "version": d.Version,
		})
		return nil
	})
	if err != nil || len(fresh) == 0 {
		return repair, err
	}
	// updated_at stays: it is what the agent's next word is held against.
	err = t.put(ctx, `
		update deployment d set reason = $3, message = new.how from unnest($1::uuid[], $2::text[]) as new(id, how) where d.id = new.id`,
		fresh, how, codeDrift)
	return repair, err
}
