package store

import (
	"context"
	"errors"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// AuthenticateKey returns whose API key has the hash. A key that is unknown,
// revoked or expired, or whose principal is disabled, is Denied. The use is
// noted at most once a minute.
func (s *Store) AuthenticateKey(ctx context.Context, hash certctl.Digest) (certctl.Principal, error) {
	var p certctl.Principal
	var roles []string
	var key certctl.ID
	var expired, revoked, stale bool
	err := s.pool.QueryRow(ctx, `
		select p.id, p.kind, p.name, coalesce(team.name, ''), p.roles, p.disabled_at, k.id,
			coalesce(k.expires_at <= now(), false), k.revoked_at is not null, coalesce(k.last_used_at < now() - $2::interval, true)
		from api_key k join principal p on p.id = k.principal_id left join team on team.id = p.team_id
		where k.hash = $1`, hash, lastUsedEvery).
		Scan(&p.ID, &p.Kind, &p.Name, &p.Team, &roles, &p.DisabledAt, &key, &expired, &revoked, &stale)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return certctl.Principal{}, certctl.Errorf(certctl.Denied, "this API key is not known here")
	case err != nil:
		return certctl.Principal{}, failed(err, "the API key could not be looked up")
	case revoked:
		return certctl.Principal{}, certctl.Errorf(certctl.Denied, "this API key was revoked")
	case expired:
		return certctl.Principal{}, certctl.Errorf(certctl.Denied, "this API key has expired").WithRemedy("ask an admin for a new one")
	case !p.DisabledAt.IsZero():
		return certctl.Principal{}, certctl.Errorf(certctl.Denied, "%s is disabled", p.Name)
	}
	p.Roles = rolesOf(roles)
	if stale {
		_, err = s.pool.Exec(ctx, `
			update api_key set last_used_at = now() where id = $1 and coalesce(last_used_at < now() - $2::interval, true)`, key, lastUsedEvery)
	}
	return p, failed(err, "the use of the API key could not be noted")
}

// CreateAPIKey stores a key of a principal (name or id) by its hash. prefix are
// its first characters; a zero expires is never.
func (s *Store) CreateAPIKey(ctx context.Context, actor certctl.Actor, principal, name, prefix string, hash certctl.Digest, expires time.Time) (certctl.APIKey, error) {
	if err := certctl.CheckObjectName(name); err != nil {
		return certctl.APIKey{}, certctl.InvalidField("/name", "%s", certctl.ErrorMessage(err))
	}
	var made certctl.APIKey
	err := s.write(ctx, actor, func(t *tx) error {
		p, err := t.findPrincipal(ctx, certctl.VerbUpdate, principal)
		if err != nil {
			return err
		}
		if err := certctl.Authorize(actor.Principal, certctl.VerbCreate, certctl.Object{Kind: certctl.ObjectAPIKey, Team: p.Team}); err != nil {
			return err
		}
		if !expires.IsZero() && !expires.After(t.now) {
			return certctl.InvalidField("/expires_at", "is in the past")
		}
		made, err = t.insertKey(ctx, p, name, prefix, hash, expires)
		return err
	})
	return made, err
}

func (t *tx) insertKey(ctx context.Context, p certctl.Principal, name, prefix string, hash certctl.Digest, expires time.Time) (certctl.APIKey, error) {
	key := certctl.APIKey{
		ID: certctl.NewID(t.now), Principal: certctl.Ref{ID: p.ID, Name: p.Name}, Name: name, Prefix: prefix,
		CreatedAt: t.now, ExpiresAt: expires.UTC().Truncate(time.Microsecond),
	}
	_, err := t.Exec(ctx, `
		insert into api_key (id, principal_id, name, prefix, hash, expires_at) values ($1, $2, $3, $4, $5, $6)`,
		key.ID, p.ID, name, prefix, hash, key.ExpiresAt)
	t.event(teamOf(p.Team), certctl.AggregateAccess, p.ID, certctl.EventAPIKeyCreated, map[string]any{
		"key": key.ID, "name": name, "prefix": prefix, "principal": p.ID, "expires_at": key.ExpiresAt,
	})
	return key, err
}

// ListAPIKeys returns one page of keys, newest first, revoked ones, too; those of
// one principal (name or id) if one is given.
func (s *Store) ListAPIKeys(ctx context.Context, actor certctl.Actor, principal string, filter certctl.NamedFilter) (certctl.Page[certctl.APIKey], error) {
	var page certctl.Page[certctl.APIKey]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectAPIKey); err != nil {
			return err
		}
		c := &conditions{}
		t.inTeam(c, "p.team_id", filter.Team)
		if principal != "" {
			p, err := t.findPrincipal(ctx, certctl.VerbRead, principal)
			if err != nil {
				return err
			}
			c.add("o.principal_id = ?", p.ID)
		}
		ids, limit, err := t.listIDs(ctx, "api_key o join principal p on p.id = o.principal_id", c, filter.PageRequest)
		if err != nil {
			return err
		}
		keys, err := t.apiKeys(ctx, ids)
		page = pageOf(keys, limit, func(k certctl.APIKey) certctl.ID { return k.ID })
		return err
	})
	return page, err
}

func (t *tx) apiKeys(ctx context.Context, ids []certctl.ID) ([]certctl.APIKey, error) {
	rows, err := t.Query(ctx, `
		select k.id, p.id, p.name, k.name, k.prefix, k.created_at, k.expires_at, k.last_used_at, k.revoked_at
		from api_key k join principal p on p.id = k.principal_id where k.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	var k certctl.APIKey
	read := make(map[certctl.ID]certctl.APIKey, len(ids))
	_, err = pgx.ForEachRow(rows, []any{&k.ID, &k.Principal.ID, &k.Principal.Name, &k.Name, &k.Prefix,
		&k.CreatedAt, &k.ExpiresAt, &k.LastUsedAt, &k.RevokedAt}, func() error {
		read[k.ID] = k
		return nil
	})
	return inOrder(ids, read), err
}

// RevokeAPIKey ends a key at once. Revoking it again changes nothing.
func (s *Store) RevokeAPIKey(ctx context.Context, actor certctl.Actor, id certctl.ID) error {
	return s.write(ctx, actor, func(t *tx) error {
		var principal certctl.ID
		var team, name string
		err := t.QueryRow(ctx, `
			select p.id, coalesce(team.name, ''), k.name
			from api_key k join principal p on p.id = k.principal_id left join team on team.id = p.team_id
			where k.id = $1`, id).Scan(&principal, &team, &name)
		if err != nil {
			return orNotFound(err, certctl.ObjectAPIKey, id)
		}
		if own := t.actor.Principal.Team; own != "" && own != team {
			return notFound(certctl.ObjectAPIKey, id.String())
		}
		if err := certctl.Authorize(actor.Principal, certctl.VerbDelete, certctl.Object{Kind: certctl.ObjectAPIKey, Team: team}); err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `update api_key set revoked_at = now() where id = $1 and revoked_at is null`, id)
		if err == nil && tag.RowsAffected() > 0 {
			t.event(teamOf(team), certctl.AggregateAccess, principal, certctl.EventAPIKeyRevoked, map[string]any{
				"key": id, "name": name, "principal": principal,
			})
		}
		return err
	})
}
