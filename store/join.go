package store

import (
	"context"
	"net/netip"
	"path"
	"strconv"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// longestToken bounds how long a join token may lie around.
const longestToken = 366 * certctl.Day

// CreateJoinToken stores a join token by its hash.
func (s *Store) CreateJoinToken(ctx context.Context, actor certctl.Actor, token certctl.JoinToken, hash certctl.Digest) (certctl.JoinToken, error) {
	var made certctl.JoinToken
	err := s.write(ctx, actor, func(t *tx) error {
		teamID, team, err := t.ownerTeam(ctx, token.Team)
		if err != nil {
			return err
		}
		if err := certctl.Authorize(actor.Principal, certctl.VerbCreate, certctl.Object{Kind: certctl.ObjectJoinToken, Team: team}); err != nil {
			return err
		}
		if err := checkToken(token, t.now); err != nil {
			return err
		}
		id := certctl.NewID(t.now)
		if err := t.put(ctx, `
			insert into join_token (id, team_id, prefix, hash, uses_left, expires_at, names, labels, networks, approve, replace, fleet)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			id, teamID, token.Prefix, hash, token.UsesLeft, token.ExpiresAt, some(token.Names), someLabels(token.Labels),
			some(token.Networks), token.Approve, token.Replace, token.Fleet); err != nil {
			return err
		}
		t.event(team, certctl.AggregateAccess, id, certctl.EventJoinTokenCreated, map[string]any{
			"token": id, "prefix": token.Prefix, "uses": token.UsesLeft, "expires_at": token.ExpiresAt.UTC(),
			"approve": token.Approve, "replace": token.Replace, "fleet": token.Fleet,
		})
		all, err := t.joinTokens(ctx, []certctl.ID{id})
		if err == nil {
			made = all[0]
		}
		return err
	})
	return made, err
}

// JoinTokenUsable says whether a machine could enrol with the token of the hash
// now; a token that nobody knows is not usable.
func (s *Store) JoinTokenUsable(ctx context.Context, hash certctl.Digest) (bool, error) {
	var usable bool
	err := s.pool.QueryRow(ctx, `
		select exists (select from join_token where hash = $1 and revoked_at is null and expires_at > now() and uses_left > 0)`, hash).Scan(&usable)
	return usable, failed(err, "the join token could not be looked up")
}

func checkToken(token certctl.JoinToken, now time.Time) error {
	var bad certctl.FieldErrors
	if token.UsesLeft < 1 {
		bad.Add("/uses", "must be at least 1")
	}
	if !token.ExpiresAt.After(now) || token.ExpiresAt.Sub(now) > longestToken {
		bad.Add("/expires_at", "must be in the future, and within %s", certctl.Duration(longestToken))
	}
	if token.Fleet != "" {
		bad.AddError("/fleet", certctl.CheckObjectName(token.Fleet))
	}
	if token.Fleet != "" && token.Replace {
		bad.Add("/fleet", "a token of a fleet replaces agents of that fleet, and no others: leave /replace out")
	}
	for i, pattern := range token.Names {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			bad.Add("/names/"+strconv.Itoa(i), "%q is not a pattern of names", certctl.Clip(pattern, 80))
		}
	}
	for i, network := range token.Networks {
		if _, err := netip.ParsePrefix(network); err != nil {
			bad.Add("/networks/"+strconv.Itoa(i), "%q is not a network in CIDR form", certctl.Clip(network, 80))
		}
	}
	bad.AddError("", certctl.CheckLabels(token.Labels))
	return bad.Err()
}

func someLabels(labels map[string]string) map[string]string {
	if labels == nil {
		return map[string]string{}
	}
	return labels
}

// ListJoinTokens returns one page of join tokens, newest first, former ones, too.
func (s *Store) ListJoinTokens(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.JoinToken], error) {
	var page certctl.Page[certctl.JoinToken]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectJoinToken); err != nil {
			return err
		}
		c := &conditions{}
		t.inTeam(c, "o.team_id", filter.Team)
		ids, limit, err := t.listIDs(ctx, "join_token o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		tokens, err := t.joinTokens(ctx, ids)
		page = pageOf(tokens, limit, func(k certctl.JoinToken) certctl.ID { return k.ID })
		return err
	})
	return page, err
}

const joinTokenColumns = `k.id, team.name, k.prefix, k.uses_left, k.expires_at, k.names, k.labels, k.networks, k.approve, k.replace,
	k.fleet, k.created_at, k.revoked_at`

func scanJoinToken(row pgx.CollectableRow) (k certctl.JoinToken, err error) {
	return k, row.Scan(&k.ID, &k.Team, &k.Prefix, &k.UsesLeft, &k.ExpiresAt, &k.Names, &k.Labels, &k.Networks, &k.Approve, &k.Replace,
		&k.Fleet, &k.CreatedAt, &k.RevokedAt)
}

func (t *tx) joinTokens(ctx context.Context, ids []certctl.ID) ([]certctl.JoinToken, error) {
	rows, err := t.Query(ctx, `select `+joinTokenColumns+` from join_token k join team on team.id = k.team_id where k.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, scanJoinToken)
	read := make(map[certctl.ID]certctl.JoinToken, len(all))
	for _, k := range all {
		read[k.ID] = k
	}
	return inOrder(ids, read), err
}

// RevokeJoinToken ends a join token: no further machine enrols with it. Those
// that have stay. Revoking it again changes nothing.
func (s *Store) RevokeJoinToken(ctx context.Context, actor certctl.Actor, id certctl.ID) error {
	return s.write(ctx, actor, func(t *tx) error {
		all, err := t.joinTokens(ctx, []certctl.ID{id})
		if err != nil {
			return err
		}
		if own := t.actor.Principal.Team; len(all) == 0 || own != "" && own != all[0].Team {
			return notFound(certctl.ObjectJoinToken, id.String())
		}
		if err := certctl.Authorize(actor.Principal, certctl.VerbDelete, certctl.Object{Kind: certctl.ObjectJoinToken, Team: all[0].Team}); err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `update join_token set revoked_at = now() where id = $1 and revoked_at is null`, id)
		if err == nil && tag.RowsAffected() > 0 {
			t.event(all[0].Team, certctl.AggregateAccess, id, certctl.EventJoinTokenRevoked, map[string]any{"token": id, "prefix": all[0].Prefix})
		}
		return err
	})
}
