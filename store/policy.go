package store

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/certctl/certctl"
)

// CreateRenewalPolicy stores a new policy.
func (s *Store) CreateRenewalPolicy(ctx context.Context, actor certctl.Actor, policy certctl.RenewalPolicy) (certctl.RenewalPolicy, error) {
	if err := policy.Validate(); err != nil {
		return certctl.RenewalPolicy{}, err
	}
	var made certctl.RenewalPolicy
	err := s.write(ctx, actor, func(t *tx) error {
		id, err := policyDocument().create(ctx, t, policy.Team, policy.Name, policyBody(policy))
		if err != nil {
			return err
		}
		made, err = t.policy(ctx, id)
		return err
	})
	return made, err
}

// GetRenewalPolicy returns one policy, also an archived one by its id.
func (s *Store) GetRenewalPolicy(ctx context.Context, actor certctl.Actor, ref string) (certctl.RenewalPolicy, error) {
	var policy certctl.RenewalPolicy
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectRenewalPolicy, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		policy, err = t.policy(ctx, f.id)
		return err
	})
	return policy, err
}

// ListRenewalPolicies returns one page of the live policies.
func (s *Store) ListRenewalPolicies(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.RenewalPolicy], error) {
	var page certctl.Page[certctl.RenewalPolicy]
	err := s.readAs(ctx, actor, func(t *tx) error {
		ids, limit, err := policyDocument().list(ctx, t, filter)
		if err != nil {
			return err
		}
		policies, err := t.policiesByID(ctx, ids)
		page = pageOf(inOrder(ids, policies), limit, func(p certctl.RenewalPolicy) certctl.ID { return p.ID })
		return err
	})
	return page, err
}

// UpdateRenewalPolicy replaces a policy. It holds for versions issued from then
// on; the renewal times of those that exist stay as they were drawn, until a
// certificate is given another policy.
func (s *Store) UpdateRenewalPolicy(ctx context.Context, actor certctl.Actor, ref string, policy certctl.RenewalPolicy) (certctl.RenewalPolicy, error) {
	if err := policy.Validate(); err != nil {
		return certctl.RenewalPolicy{}, err
	}
	var changed certctl.RenewalPolicy
	err := s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectRenewalPolicy, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		before, err := t.policy(ctx, f.id)
		if err != nil {
			return err
		}
		id, err := policyDocument().update(ctx, t, ref, policy.Name, policyBody(policy))
		if err != nil {
			return err
		}
		if changed, err = t.policy(ctx, id); err != nil {
			return err
		}
		if slices.Equal(before.AlertBefore, changed.AlertBefore) {
			return nil
		}
		return t.lookAtExpiry(ctx, id)
	})
	return changed, err
}

// ArchiveRenewalPolicy ends a policy; Conflict while certificates use it.
func (s *Store) ArchiveRenewalPolicy(ctx context.Context, actor certctl.Actor, ref string) error {
	return s.write(ctx, actor, func(t *tx) error { return policyDocument().archive(ctx, t, ref) })
}

// policyBody is the part of a policy that is stored as JSON; the rest has columns.
func policyBody(p certctl.RenewalPolicy) certctl.RenewalPolicy {
	p.ID, p.Team, p.Name, p.CreatedAt, p.UpdatedAt = certctl.NoID, "", "", time.Time{}, time.Time{}
	return p
}

func (t *tx) policy(ctx context.Context, id certctl.ID) (certctl.RenewalPolicy, error) {
	policies, err := t.policiesByID(ctx, []certctl.ID{id})
	return policies[id], err
}

// policiesByID reads policies, archived ones, too.
func (t *tx) policiesByID(ctx context.Context, ids []certctl.ID) (map[certctl.ID]certctl.RenewalPolicy, error) {
	rows, err := t.Query(ctx, `
		select p.id, team.name, p.name, p.body, p.created_at, p.updated_at
		from renewal_policy p join team on team.id = p.team_id where p.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	policies := make(map[certctl.ID]certctl.RenewalPolicy, len(ids))
	for rows.Next() {
		var p, row certctl.RenewalPolicy
		var body []byte
		if err := rows.Scan(&row.ID, &row.Team, &row.Name, &body, &row.CreatedAt, &row.UpdatedAt); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(body, &p); err != nil {
			return nil, certctl.Wrap(certctl.Internal, err, "the renewal policy %s cannot be read", row.Name)
		}
		p.ID, p.Team, p.Name, p.CreatedAt, p.UpdatedAt = row.ID, row.Team, row.Name, row.CreatedAt, row.UpdatedAt
		policies[p.ID] = p
	}
	return policies, rows.Err()
}
