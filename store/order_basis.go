package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
)

// orderBases reads what the orders of some certificates are made from. Profiles
// are read and encoded once each, however many certificates have them.
func (t *tx) orderBases(ctx context.Context, specs []orderSpec) (map[certctl.ID]*orderBasis, error) {
	ids := make([]certctl.ID, len(specs))
	for i, spec := range specs {
		ids[i] = spec.Certificate
	}
	bases, err := t.orderCertificates(ctx, ids)
	if err != nil {
		return nil, err
	}
	wanted := map[certctl.ID]bool{}
	for _, basis := range bases {
		wanted[basis.profileID] = true
	}
	profiles, err := t.profilesByID(ctx, keysOf(wanted))
	if err != nil {
		return nil, err
	}
	encoded := make(map[certctl.ID]string, len(profiles))
	for id, profile := range profiles {
		text, err := json.Marshal(snapshotOf(profile))
		if err != nil {
			return nil, err
		}
		encoded[id] = string(text)
	}
	for _, basis := range bases {
		basis.profile, basis.encoded = profiles[basis.profileID], encoded[basis.profileID]
	}
	return bases, nil
}

// snapshotOf is what an order keeps of its profile: what is asked, and by which name.
func snapshotOf(p certctl.Profile) certctl.Profile {
	p.ID, p.Team, p.Description, p.CreatedAt, p.UpdatedAt = certctl.NoID, "", "", time.Time{}, time.Time{}
	return p
}

func (t *tx) orderCertificates(ctx context.Context, ids []certctl.ID) (map[certctl.ID]*orderBasis, error) {
	rows, err := t.Query(ctx, `
		select c.id, team.name, c.name, c.dns, c.ips, c.uris, c.emails, c.revision, c.issuers, c.profile_id
		from certificate c join team on team.id = c.team_id where c.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	bases := make(map[certctl.ID]*orderBasis, len(ids))
	for rows.Next() {
		var id certctl.ID
		b := &orderBasis{}
		if err := rows.Scan(&id, &b.team, &b.name, &b.names.DNS, &b.names.IP, &b.names.URI, &b.names.Email,
			&b.revision, &b.issuers, &b.profileID); err != nil {
			return nil, err
		}
		bases[id] = b
	}
	return bases, rows.Err()
}

func (t *tx) orderHolders(ctx context.Context, specs []orderSpec) (map[certctl.ID]orderHolder, error) {
	ids := make([]certctl.ID, len(specs))
	for i, spec := range specs {
		ids[i] = spec.Holder
	}
	rows, err := t.Query(ctx, `
		select h.id, h.kind, case when h.kind <> 'shared' then h.agent_id else (
			select m.agent_id from holder_member m join agent a on a.id = m.agent_id left join agent_contact c on c.agent_id = a.id
			where m.holder_id = h.id and m.left_at is null and a.state = 'active'
			order by `+makerOrder+`, exists (select from member_key k join version v on v.id = h.version_id and v.spki = k.spki
				where k.holder_id = h.id and k.agent_id = m.agent_id and k.held_at is not null) desc, c.at desc nulls last, m.agent_id limit 1) end, h.next_csr, h.next_agent_id
		from holder h where h.id = any($1)`, ids, certctl.OfflineAfter)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	holders := make(map[certctl.ID]orderHolder, len(ids))
	for rows.Next() {
		var id, next certctl.ID
		var h orderHolder
		var csr []byte
		if err := rows.Scan(&id, &h.kind, &h.agent, &csr, &next); err != nil {
			return nil, err
		}
		h.next = nextOf(csr, next)
		holders[id] = h
	}
	return holders, rows.Err()
}

func keysOf(set map[certctl.ID]bool) []certctl.ID {
	ids := make([]certctl.ID, 0, len(set))
	for id := range set {
		ids = append(ids, id)
	}
	return ids
}
