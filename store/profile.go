package store

import (
	"context"
	"encoding/json"

	"github.com/certctl/certctl"
)

// profilesByID reads profiles, archived ones, too.
func (t *tx) profilesByID(ctx context.Context, ids []certctl.ID) (map[certctl.ID]certctl.Profile, error) {
	rows, err := t.Query(ctx, `
		select p.id, team.name, p.name, p.body, p.created_at, p.updated_at
		from profile p join team on team.id = p.team_id where p.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	profiles := make(map[certctl.ID]certctl.Profile, len(ids))
	for rows.Next() {
		p, err := scanProfile(rows)
		if err != nil {
			return nil, err
		}
		profiles[p.ID] = p
	}
	return profiles, rows.Err()
}

// scanProfile reads id, team, name, body and the two times.
func scanProfile(row interface{ Scan(...any) error }) (certctl.Profile, error) {
	var p, head certctl.Profile
	var body []byte
	if err := row.Scan(&head.ID, &head.Team, &head.Name, &body, &head.CreatedAt, &head.UpdatedAt); err != nil {
		return p, err
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return p, certctl.Wrap(certctl.Internal, err, "the profile %s cannot be read", head.Name)
	}
	p.ID, p.Team, p.Name, p.CreatedAt, p.UpdatedAt = head.ID, head.Team, head.Name, head.CreatedAt, head.UpdatedAt
	return p, nil
}
