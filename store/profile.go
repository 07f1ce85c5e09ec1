package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
)

// CreateProfile stores a new profile.
func (s *Store) CreateProfile(ctx context.Context, actor certctl.Actor, profile certctl.Profile) (certctl.Profile, error) {
	if err := profile.Validate(); err != nil {
		return certctl.Profile{}, err
	}
	var made certctl.Profile
	err := s.write(ctx, actor, func(t *tx) error {
		id, err := profileDocument().create(ctx, t, profile.Team, profile.Name, profileBody(profile))
		if err != nil {
			return err
		}
		made, err = t.profile(ctx, id)
		return err
	})
	return made, err
}

// GetProfile returns one profile, also an archived one by its id.
func (s *Store) GetProfile(ctx context.Context, actor certctl.Actor, ref string) (certctl.Profile, error) {
	var profile certctl.Profile
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectProfile, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		profile, err = t.profile(ctx, f.id)
		return err
	})
	return profile, err
}

// ListProfiles returns one page of the live profiles.
func (s *Store) ListProfiles(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.Profile], error) {
	var page certctl.Page[certctl.Profile]
	err := s.readAs(ctx, actor, func(t *tx) error {
		ids, limit, err := profileDocument().list(ctx, t, filter)
		if err != nil {
			return err
		}
		profiles, err := t.profilesByID(ctx, ids)
		page = pageOf(inOrder(ids, profiles), limit, func(p certctl.Profile) certctl.ID { return p.ID })
		return err
	})
	return page, err
}

// UpdateProfile replaces a profile. What is ordered already keeps the snapshot
// that it has; certificates follow with their next order.
func (s *Store) UpdateProfile(ctx context.Context, actor certctl.Actor, ref string, profile certctl.Profile) (certctl.Profile, error) {
	if err := profile.Validate(); err != nil {
		return certctl.Profile{}, err
	}
	var changed certctl.Profile
	err := s.write(ctx, actor, func(t *tx) error {
		id, err := profileDocument().update(ctx, t, ref, profile.Name, profileBody(profile))
		if err != nil {
			return err
		}
		changed, err = t.profile(ctx, id)
		return err
	})
	return changed, err
}

// ArchiveProfile ends a profile; Conflict while certificates use it.
func (s *Store) ArchiveProfile(ctx context.Context, actor certctl.Actor, ref string) error {
	return s.write(ctx, actor, func(t *tx) error { return profileDocument().archive(ctx, t, ref) })
}

// profileBody is the part of a profile that is stored as JSON; the rest has columns.
func profileBody(p certctl.Profile) certctl.Profile {
	p.ID, p.Team, p.Name, p.CreatedAt, p.UpdatedAt = certctl.NoID, "", "", time.Time{}, time.Time{}
	return p
}

func (t *tx) profile(ctx context.Context, id certctl.ID) (certctl.Profile, error) {
	profiles, err := t.profilesByID(ctx, []certctl.ID{id})
	return profiles[id], err
}

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
		var p, row certctl.Profile
		var body []byte
		if err := rows.Scan(&row.ID, &row.Team, &row.Name, &body, &row.CreatedAt, &row.UpdatedAt); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(body, &p); err != nil {
			return nil, certctl.Wrap(certctl.Internal, err, "the profile %s cannot be read", row.Name)
		}
		p.ID, p.Team, p.Name, p.CreatedAt, p.UpdatedAt = row.ID, row.Team, row.Name, row.CreatedAt, row.UpdatedAt
		profiles[p.ID] = p
	}
	return profiles, rows.Err()
}
