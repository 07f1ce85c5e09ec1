package store

import (
	"context"
	"errors"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// givenKey is the name of the admin's key that comes from outside.
const givenKey = "given"

// GiveAdminKey makes a key from outside the one given key of the principal admin,
// whom it makes where there is none. The given key before it ends, and may be
// given again; one that was revoked may not. changed reports whether the key was
// not valid before. It may be called by any replica at any time.
func (s *Store) GiveAdminKey(ctx context.Context, hash certctl.Digest) (changed bool, err error) {
	err = s.write(ctx, certctl.SystemActor("bootstrap"), func(t *tx) error {
		if err := t.put(ctx, `select pg_advisory_xact_lock($1)`, lockKey(givenKey)); err != nil {
			return err
		}
		admin, err := t.admin(ctx)
		if err != nil {
			return err
		}
		key, live, err := t.findGiven(ctx, admin, hash)
		if err != nil || live {
			return err
		}
		changed = true
		if key.IsZero() {
			made, err := t.insertKey(ctx, admin, givenKey, "", hash, time.Time{}) // of a key of others nothing is shown
			if err != nil {
				return err
			}
			return t.endOtherGiven(ctx, admin, made.ID)
		}
		if err := t.put(ctx, `update api_key set expires_at = null where id = $1`, key); err != nil {
			return err
		}
		t.event(teamOf(admin.Team), certctl.AggregateAccess, admin.ID, certctl.EventAPIKeyCreated, map[string]any{
			"key": key, "name": givenKey, "principal": admin.ID,
		})
		return t.endOtherGiven(ctx, admin, key)
	})
	return changed && err == nil, err
}

// findGiven looks for the key among all that there are; its id is zero when it is
// new.
func (t *tx) findGiven(ctx context.Context, admin certctl.Principal, hash certctl.Digest) (key certctl.ID, live bool, err error) {
	var name string
	var owner certctl.ID
	var expired, revoked bool
	err = t.QueryRow(ctx, `
		select id, principal_id, name, coalesce(expires_at <= now(), false), revoked_at is not null from api_key where hash = $1`, hash).
		Scan(&key, &owner, &name, &expired, &revoked)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return certctl.ID{}, false, nil
	case err != nil:
		return key, false, err
	case owner != admin.ID || name != givenKey:
		return key, false, certctl.Errorf(certctl.Conflict, "the key that is given is one that was made here").
			WithRemedy("give one of your own: openssl rand -hex 32")
	case revoked:
		return key, false, certctl.Errorf(certctl.Denied, "the key that is given was revoked").
			WithRemedy("give another one: openssl rand -hex 32")
	}
	return key, !expired, nil
}

// endOtherGiven ends the given key that another one has replaced.
func (t *tx) endOtherGiven(ctx context.Context, admin certctl.Principal, key certctl.ID) error {
	rows, err := t.Query(ctx, `
		update api_key set expires_at = now()
		where principal_id = $1 and name = $2 and id <> $3 and revoked_at is null and (expires_at is null or expires_at > now())
		returning id`, admin.ID, givenKey, key)
	if err != nil {
		return err
	}
	ended, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	for _, id := range ended {
		t.event(teamOf(admin.Team), certctl.AggregateAccess, admin.ID, certctl.EventAPIKeyRevoked, map[string]any{
			"key": id, "name": givenKey, "principal": admin.ID, "replaced_by": key,
		})
	}
	return err
}

// admin returns the platform's first admin, and makes it where there is none.
func (t *tx) admin(ctx context.Context) (certctl.Principal, error) {
	var id certctl.ID
	err := t.QueryRow(ctx, `select id from principal where team_id is null and name = $1`, adminName).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return t.insertAdmin(ctx)
	}
	if err != nil {
		return certctl.Principal{}, err
	}
	return t.principal(ctx, id)
}
