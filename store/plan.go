package store

import (
	"context"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// planBatch is how many holders are read at once for a plan.
const planBatch = 1000

// PlannedHolders returns what a plan of renewals is made from, and the moment at
// which it was so.
func (s *Store) PlannedHolders(ctx context.Context, actor certctl.Actor, filter certctl.PlanFilter) (all []certctl.PlannedHolder, err error) {
	err = s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectCertificate); err != nil {
			return err
		}
		c := &conditions{}
		c.add("c.archived_at is null and c.purpose = 'user' and c.issuers <> '{}' and h.ended_at is null")
		t.inTeam(c, "c.team_id", filter.Team)
		if len(filter.Label) > 0 {
			c.add("c.labels @> ?", filter.Label)
		}
		if filter.Issuer != "" {
			issuer, err := t.one(ctx, certctl.ObjectIssuer, certctl.VerbRead, filter.Issuer)
			if err != nil {
				return err
			}
			c.add("c.issuers[1] = ?", issuer.id)
		}
		var ids []certctl.ID
		if err := t.QueryRow(ctx, `
			select array(select h.id from holder h join certificate c on c.id = h.certificate_id where `+c.String()+` order by h.id)`,
			c.args...).Scan(&ids); err != nil {
			return err
		}
		for batch := range slices.Chunk(ids, planBatch) {
			planned, err := t.plannedHolders(ctx, batch)
			if err != nil {
				return err
			}
			all = append(all, planned...)
		}
		return nil
	})
	return all, err
}

func (t *tx) plannedHolders(ctx context.Context, ids []certctl.ID) ([]certctl.PlannedHolder, error) {
	swept, err := t.sweptHolders(ctx, ids)
	if err != nil {
		return nil, err
	}
	rows, err := t.Query(ctx, `
		select h.id, c.id, c.name, c.dns, c.ips, i.id, i.name, i.trust, i.rate_count, i.rate_period, c.profile_id, c.policy_id,
			info.window_start is not null
		from holder h join certificate c on c.id = h.certificate_id join issuer i on i.id = c.issuers[1]
		left join renewal_info info on info.version_id = h.version_id where h.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	known := make(map[certctl.ID]certctl.PlannedHolder, len(ids))
	profiles, policies, issuers := map[certctl.ID]bool{}, map[certctl.ID]bool{}, map[certctl.ID]bool{}
	profileOf := make(map[certctl.ID]certctl.ID, len(ids))
	var holder, profile certctl.ID
	var p certctl.PlannedHolder
	if _, err := pgx.ForEachRow(rows, []any{&holder, &p.Certificate.ID, &p.Certificate.Name, &p.Names.DNS, &p.Names.IP, &p.Issuer.ID, &p.Issuer.Name,
		&p.Trust, &p.Rate.Count, &p.Rate.Per, &profile, &p.Policy.ID, &p.Informed}, func() error {
		known[holder], profileOf[holder] = p, profile
		p.Names = certctl.Names{} // of the next row: its slices are not this one's
		profiles[profile], policies[p.Policy.ID], issuers[p.Issuer.ID] = true, true, true
		return nil
	}); err != nil {
		return nil, err
	}
	bodies, err := t.profilesByID(ctx, keysOf(profiles))
	if err != nil {
		return nil, err
	}
	// Whoever may see a holder is told what its issuer is like: it may be of another
	// team than the certificate.
	asked, err := t.issuersByID(ctx, keysOf(issuers))
	if err != nil {
		return nil, err
	}
	times, err := t.policiesByID(ctx, keysOf(policies))
	out := make([]certctl.PlannedHolder, 0, len(swept))
	for _, h := range swept {
		planned := known[h.id]
		planned.Kind, planned.Settings = asked[planned.Issuer.ID].Kind, asked[planned.Issuer.ID].Settings
		planned.Facts, planned.Policy, planned.Validity = h.facts, times[h.policy], bodies[profileOf[h.id]].Validity
		planned.Spread = float64(h.id[len(h.id)-1]) / 256 // any number that stays the same
		out = append(out, planned)
	}
	return out, err
}
