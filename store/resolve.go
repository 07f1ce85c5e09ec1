package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/certctl/certctl"
)

// found is what a reference leads to, with what authorisation looks at.
type found struct {
	id        certctl.ID
	name      string
	teamID    certctl.ID
	team      string
	owner     string
	labels    map[string]string
	archived  bool
	ambiguous bool // several teams have one of this name
}

func (f found) ref() certctl.Ref { return certctl.Ref{ID: f.id, Name: f.name} }

// named describes a kind of object that has a name: its table, where its owner
// and labels are, and what makes a row no longer live. live is the predicate of
// the table's partial index on (team_id, name).
type named struct{ table, owner, labels, live string }

// namedKind returns how objects of a kind are found. Only kinds that references
// lead to are ever asked for.
func namedKind(kind certctl.ObjectKind) named {
	const open = "o.archived_at is null"
	switch kind {
	case certctl.ObjectCertificate:
		return named{"certificate", "o.owner", "o.labels", open}
	case certctl.ObjectTarget:
		return named{"target", "''", "o.labels", open}
	case certctl.ObjectAgent:
		return named{"agent", "''", "o.labels", "o.state <> 'retired'"}
	default: // issuer, profile and renewal_policy, whose tables have the names of their kinds
		return named{string(kind), "''", "'{}'::jsonb", open}
	}
}

// readAs is read on behalf of an actor, whose team and roles then count.
func (s *Store) readAs(ctx context.Context, actor certctl.Actor, query func(*tx) error) error {
	return failed(transact(ctx, s.pool, beginList, &tx{actor: actor, known: &s.agents}, query), "the data could not be read")
}

// scope returns the teams among which references of an object of the given team
// are looked up, the first one first; nil means every team. An actor that
// belongs to a team sees that team alone. Others may refer to what their
// object's team has and to what the default team offers to all.
func (t *tx) scope(team string) []string {
	switch own := t.actor.Principal.Team; {
	case own != "":
		return []string{own}
	case team == "":
		return nil
	case team == certctl.DefaultTeam:
		return []string{team}
	}
	return []string{team, certctl.DefaultTeam}
}

// reading and referring say whether find only looks, or also keeps what it finds
// from being archived before the transaction ends.
const (
	reading   = ""
	referring = "for key share of o"
)

// find looks up names and ids of one kind among the teams. What does not exist
// there is not in the answer. Ids also find what is archived.
//
// Ids and names are two queries: in one, with an OR, the planner reads the whole
// table as long as its statistics are those of a small one.
func (t *tx) find(ctx context.Context, lock string, kind certctl.ObjectKind, teams []string, refs ...string) (map[string]found, error) {
	var ids []certctl.ID
	var names []string
	for _, ref := range refs {
		if id, err := certctl.ParseID(ref); err == nil {
			ids = append(ids, id)
		} else {
			names = append(names, ref)
		}
	}
	all := make(map[string]found, len(refs))
	if len(ids) > 0 {
		if err := t.findWhere(ctx, all, lock, kind, teams, "o.id = any($1)", ids); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return all, nil
	}
	// Teams come as an array, so that the index on (team_id, name) is used
	// whatever the planner thinks of the number of teams.
	return all, t.findWhere(ctx, all, lock, kind, teams, "o.name = any($1) and "+namedKind(kind).live+`
		and o.team_id = any(array(select id from team where $2::text[] is null or name = any($2)))`, names, teams)
}

func (t *tx) findWhere(ctx context.Context, all map[string]found, lock string, kind certctl.ObjectKind, teams []string, clause string, args ...any) error {
	k := namedKind(kind)
	rows, err := t.Query(ctx, fmt.Sprintf(`
		select o.id, o.name, o.team_id, team.name, %s, %s, not (%s)
		from %s o join team on team.id = o.team_id where %s %s`, k.owner, k.labels, k.live, k.table, clause, lock), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var f found
		if err := rows.Scan(&f.id, &f.name, &f.teamID, &f.team, &f.owner, &f.labels, &f.archived); err != nil {
			return err
		}
		if teams != nil && !slices.Contains(teams, f.team) {
			continue
		}
		all[f.id.String()] = f
		if !f.archived {
			all[f.name] = prefer(all[f.name], f, teams)
		}
	}
	return rows.Err()
}

// prefer picks between two objects of one name: the earlier team in the scope,
// or the default team; otherwise the name is ambiguous.
func prefer(a, b found, teams []string) found {
	if a.id.IsZero() || a.id == b.id {
		return b
	}
	if teams == nil {
		teams = []string{certctl.DefaultTeam}
	}
	for _, team := range teams {
		if a.team == team {
			return a
		}
		if b.team == team {
			return b
		}
	}
	a.ambiguous = true
	return a
}

// one finds what a reference leads to and authorises the actor for the verb.
// What the actor's team does not have is not found.
func (t *tx) one(ctx context.Context, kind certctl.ObjectKind, verb certctl.Verb, ref string) (found, error) {
	teams := t.scope("")
	all, err := t.find(ctx, reading, kind, teams, ref)
	if err != nil {
		return found{}, err
	}
	f, ok := all[canonicalRef(ref)]
	if !ok {
		return found{}, notFound(kind, ref)
	}
	if f.ambiguous {
		return found{}, certctl.Errorf(certctl.Conflict, "several teams have a %s named %q", spoken(kind), f.name).
			WithRemedy("refer to it by its id")
	}
	return f, t.may(verb, kind, f)
}

// canonicalRef is a reference as find's answer names it: ids in lower case.
func canonicalRef(ref string) string {
	if id, err := certctl.ParseID(ref); err == nil {
		return id.String()
	}
	return ref
}

// may authorises the actor for an object that was found.
func (t *tx) may(verb certctl.Verb, kind certctl.ObjectKind, f found) error {
	return certctl.Authorize(t.actor.Principal, verb, certctl.Object{Kind: kind, Team: f.team, Owner: f.owner, Labels: f.labels})
}

// refer finds a live object that another one of the team is to refer to, and
// that the actor must be allowed to do verb to. A reference that leads nowhere is
// an error about the request's field.
func (t *tx) refer(ctx context.Context, verb certctl.Verb, kind certctl.ObjectKind, team, field, ref string) (found, error) {
	all, err := t.find(ctx, referring, kind, t.scope(team), ref)
	if err != nil {
		return found{}, err
	}
	return t.referred(all, verb, kind, field, ref)
}

// referred is refer on what find has found.
func (t *tx) referred(all map[string]found, verb certctl.Verb, kind certctl.ObjectKind, field, ref string) (found, error) {
	f, ok := all[canonicalRef(ref)]
	switch {
	case !ok:
		return f, certctl.InvalidField(field, "there is no %s %q", spoken(kind), certctl.Clip(ref, 100))
	case f.archived:
		return f, certctl.InvalidField(field, "the %s %s is archived", spoken(kind), f.name)
	}
	return f, t.may(verb, kind, f)
}

// spoken is a kind of object in words.
func spoken(kind certctl.ObjectKind) string { return strings.ReplaceAll(string(kind), "_", " ") }

func notFound(kind certctl.ObjectKind, ref string) error {
	return certctl.Errorf(certctl.NotFound, "there is no %s %q", spoken(kind), certctl.Clip(ref, 100))
}

// ownerTeam returns the team that a new object goes to: the one that is asked for,
// else the actor's own, else the default one.
func (t *tx) ownerTeam(ctx context.Context, team string) (certctl.ID, string, error) {
	if team == "" {
		team = t.actor.Principal.Team
	}
	if team == "" {
		team = certctl.DefaultTeam
	}
	if own := t.actor.Principal.Team; own != "" && own != team {
		return certctl.NoID, "", certctl.InvalidField("/team", "there is no team %q", certctl.Clip(team, 100))
	}
	var ids []certctl.ID
	err := t.QueryRow(ctx, `select array(select id from team where name = $1)`, team).Scan(&ids)
	if err == nil && len(ids) == 0 {
		err = certctl.InvalidField("/team", "there is no team %q", certctl.Clip(team, 100))
	}
	if err != nil {
		return certctl.NoID, "", err
	}
	return ids[0], team, nil
}
