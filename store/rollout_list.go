package store

import (
	"context"
	"fmt"
	"strconv"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// maxProblems is how many failed items a rollout shows.
const maxProblems = 20

func limitText(n int) string { return strconv.Itoa(n) }

// last is the placeholder of the n-th argument from the end.
func (c *conditions) last(n int) string { return "$" + strconv.Itoa(len(c.args)-n+1) }

func haltMessage(wave int, w certctl.RolloutWave) string {
	return fmt.Sprintf("%d of the %d items of wave %d have failed: look at them, and resume or cancel", w.Failed, w.Items, wave)
}

// GetRollout returns one rollout with how far each wave is.
func (s *Store) GetRollout(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Rollout, error) {
	var rollout certctl.Rollout
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectCertificate); err != nil {
			return err
		}
		var err error
		if rollout, err = t.rollout(ctx, id); err != nil {
			return err
		}
		return t.ofRolloutTeam(rollout)
	})
	return rollout, err
}

// ofRolloutTeam hides rollouts of other teams.
func (t *tx) ofRolloutTeam(r certctl.Rollout) error {
	if own := t.actor.Principal.Team; own != "" && own != r.Team {
		return notFound("rollout", r.ID.String())
	}
	return nil
}

// ListRollouts returns one page of rollouts, newest first, without their waves.
func (s *Store) ListRollouts(ctx context.Context, actor certctl.Actor, filter certctl.RolloutFilter) (certctl.Page[certctl.Rollout], error) {
	var page certctl.Page[certctl.Rollout]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectCertificate); err != nil {
			return err
		}
		c := &conditions{}
		t.inTeam(c, "o.team_id", filter.Team)
		if filter.State != "" {
			c.add("o.state = ?", string(filter.State))
		}
		ids, limit, err := t.listIDs(ctx, "rollout o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		rollouts, err := t.rollouts(ctx, ids)
		page = pageOf(rollouts, limit, func(r certctl.Rollout) certctl.ID { return r.ID })
		return err
	})
	return page, err
}

// rollout reads one with its waves and problems.
func (t *tx) rollout(ctx context.Context, id certctl.ID) (certctl.Rollout, error) {
	all, err := t.rollouts(ctx, []certctl.ID{id})
	if err == nil && len(all) == 0 {
		err = notFound("rollout", id.String())
	}
	if err != nil {
		return certctl.Rollout{}, err
	}
	r := all[0]
	if r.Waves, err = t.waveCounts(ctx, r); err != nil {
		return r, err
	}
	r.Problems, err = t.rolloutProblems(ctx, id)
	return r, err
}

// rollouts reads rollouts in the order of the ids.
func (t *tx) rollouts(ctx context.Context, ids []certctl.ID) ([]certctl.Rollout, error) {
	rows, err := t.Query(ctx, `
		select r.id, coalesce(team.name, ''), r.state, r.selection, r.reason, r.override, r.revoke_reason, r.replace, r.deadline, r.pace, r.plan,
			r.total, r.wave, r.base, r.began_at, r.released_at, r.forgiven, r.message, r.creator, due.due_at, r.created_at, r.updated_at, r.closed_at
		from rollout r left join team on team.id = r.team_id left join due on due.kind = 'rollout' and due.id = r.id
		where r.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r certctl.Rollout, err error) {
		return r, row.Scan(&r.ID, &r.Team, &r.State, &r.Selection, &r.Reason, &r.Override, &r.Revoke, &r.Replace, &r.Deadline, &r.Pace, &r.Plan,
			&r.Total, &r.Wave, &r.Base, &r.Began, &r.Released, &r.Forgiven, &r.Message, &r.Creator, &r.DueAt, &r.CreatedAt, &r.UpdatedAt, &r.ClosedAt)
	})
	read := make(map[certctl.ID]certctl.Rollout, len(all))
	for _, r := range all {
		read[r.ID] = r
	}
	return inOrder(ids, read), err
}

// waveCounts counts the items of each wave by state; those that are only revoked
// are the last one.
func (t *tx) waveCounts(ctx context.Context, r certctl.Rollout) ([]certctl.RolloutWave, error) {
	firsts, place := []int{}, 1
	for _, n := range r.Plan.Waves {
		firsts, place = append(firsts, place), place+n
	}
	if r.Total >= place {
		firsts = append(firsts, place)
	}
	waves := make([]certctl.RolloutWave, len(firsts))
	if len(waves) == 0 {
		return waves, nil
	}
	rows, err := t.Query(ctx, `
		select width_bucket(place, $2::int[]), state, count(*) from rollout_item where rollout_id = $1 group by 1, 2`, r.ID, firsts)
	if err != nil {
		return nil, err
	}
	var wave, n int
	var state string
	_, err = pgx.ForEachRow(rows, []any{&wave, &state, &n}, func() error {
		addItems(&waves[wave-1], state, n)
		return nil
	})
	return waves, err
}

// rolloutProblems returns the first items that have failed, and why.
func (t *tx) rolloutProblems(ctx context.Context, id certctl.ID) ([]certctl.RolloutProblem, error) {
	rows, err := t.Query(ctx, `
		select c.id, c.name, i.holder_id, coalesce(nullif((
				select max(target.name || ': ' || coalesce(nullif(d.message, ''), d.reason))
				from binding b join target on target.id = b.target_id join deployment d on d.binding_id = b.id and d.version_id = h.version_id
				where b.holder_id = h.id and b.unbound_at is null and d.state in ('rolled_back', 'failed')), ''), o.message, '')
		from rollout_item i join certificate c on c.id = i.certificate_id join holder h on h.id = i.holder_id
		left join cert_order o on o.id = i.order_id
		where i.rollout_id = $1 and i.state = 'failed' order by i.place limit `+limitText(maxProblems), id)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p certctl.RolloutProblem, err error) {
		return p, row.Scan(&p.Certificate.ID, &p.Certificate.Name, &p.Holder, &p.Message)
	})
}
