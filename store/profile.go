package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
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
// that it has, but for orders whose last attempt failed by a wrong configuration:
// they are tried again at once with what has changed. Certificates follow with
// their next order.
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
		if changed, err = t.profile(ctx, id); err != nil {
			return err
		}
		return t.tryProfile(ctx, changed)
	})
	return changed, err
}

// tryProfile gives a profile as it is now to the orders that wait because of a
// wrong configuration, and has them tried. One whose key it does not allow asks
// for another key.
func (t *tx) tryProfile(ctx context.Context, profile certctl.Profile) error {
	body, err := json.Marshal(snapshotOf(profile))
	if err != nil {
		return err
	}
	if err := t.lockCertificatesOf(ctx, `select c.id from certificate c join cert_order o on o.certificate_id = c.id and o.live
		where c.profile_id = $1 and o.wait = 'backoff'`, profile.ID); err != nil {
		return err
	}
	rows, err := t.Query(ctx, `
		update cert_order o set profile = $2, updated_at = now() from certificate c, attempt a
		where c.profile_id = $1 and o.certificate_id = c.id and o.live and o.state = 'ready' and o.wait = 'backoff'
			and a.order_id = o.id and a.n = o.attempts and a.failure = $3
		returning o.id, o.certificate_id, o.holder_id, o.state, o.wait, o.issuer_id, o.urgency, o.attempts, o.csr`,
		profile.ID, string(body), string(certctl.FailMisconfigured))
	if err != nil {
		return err
	}
	waiting, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o liveOrder, err error) {
		return o, row.Scan(&o.id, &o.certificate, &o.holder, &o.state, &o.wait, &o.issuer, &o.urgency, &o.attempts, &o.csr)
	})
	if err != nil {
		return err
	}
	var again []liveOrder
	certificates := map[certctl.ID]bool{}
	for _, o := range waiting {
		certificates[o.certificate] = true
		if csr, err := certctl.RecordedCSR(o.csr); err == nil && profile.CheckKey(csr.Algorithm) != nil {
			if err := t.takeBackCSR(ctx, o); err != nil {
				return err
			}
			continue
		}
		again = append(again, o)
	}
	if err := t.pullForward(ctx, again); err != nil {
		return err
	}
	return t.refreshStatus(ctx, keysOf(certificates)...)
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
