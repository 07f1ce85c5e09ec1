package store

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// CreatePrincipal makes a user, a service or a protocol account. A principal
// without a team sees every team, and only such a one may make another.
func (s *Store) CreatePrincipal(ctx context.Context, actor certctl.Actor, principal certctl.Principal) (certctl.Principal, error) {
	if err := checkPrincipal(principal); err != nil {
		return certctl.Principal{}, err
	}
	var made certctl.Principal
	err := s.write(ctx, actor, func(t *tx) error {
		if principal.Team == "" {
			principal.Team = actor.Principal.Team
		}
		object := certctl.Object{Kind: certctl.ObjectPrincipal, Team: principal.Team}
		if err := certctl.Authorize(actor.Principal, certctl.VerbCreate, object); err != nil {
			return err
		}
		id := certctl.NewID(t.now)
		if err := t.insertPrincipal(ctx, id, principal); err != nil {
			return err
		}
		t.event(teamOf(principal.Team), certctl.AggregateAccess, id, certctl.EventPrincipalCreated, map[string]any{
			"principal": id, "name": principal.Name, "kind": principal.Kind, "roles": principal.Roles,
		})
		var err error
		made, err = t.principal(ctx, id)
		return err
	})
	return made, err
}

func checkPrincipal(p certctl.Principal) error {
	var bad certctl.FieldErrors
	bad.AddError("/name", certctl.CheckObjectName(p.Name))
	if !slices.Contains([]certctl.PrincipalKind{certctl.PrincipalUser, certctl.PrincipalService, certctl.PrincipalProtocol}, p.Kind) {
		bad.Add("/kind", "must be user, service or protocol")
	}
	checkRoles(&bad, p.Roles)
	return bad.Err()
}

func checkRoles(bad *certctl.FieldErrors, roles []certctl.Role) {
	for _, role := range roles {
		if !slices.Contains(certctl.Roles, role) {
			bad.Add("/roles", "there is no role %q", certctl.Clip(string(role), 40))
		}
	}
}

// teamOf is the team under which events of an object without one are filed.
func teamOf(team string) string { return orElse(team, certctl.DefaultTeam) }

// insertPrincipal stores a principal; an empty team is every team.
func (t *tx) insertPrincipal(ctx context.Context, id certctl.ID, p certctl.Principal) error {
	var team certctl.ID
	if p.Team != "" {
		var err error
		if team, _, err = t.ownerTeam(ctx, p.Team); err != nil {
			return err
		}
	}
	_, err := t.Exec(ctx, `insert into principal (id, team_id, kind, name, roles) values ($1, $2, $3, $4, $5)`,
		id, team, string(p.Kind), p.Name, roleNames(p.Roles))
	if conflictOn(err, "principal_name_key") {
		return nameConflict(certctl.ObjectPrincipal, p.Name, err)
	}
	return err
}

func roleNames(roles []certctl.Role) []string {
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = string(role)
	}
	return names
}

// ListPrincipals returns one page of principals, newest first.
func (s *Store) ListPrincipals(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.Principal], error) {
	var page certctl.Page[certctl.Principal]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectPrincipal); err != nil {
			return err
		}
		c := &conditions{}
		t.inTeam(c, "o.team_id", filter.Team)
		ids, limit, err := t.listIDs(ctx, "principal o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		principals, err := t.principals(ctx, ids)
		page = pageOf(principals, limit, func(p certctl.Principal) certctl.ID { return p.ID })
		return err
	})
	return page, err
}

// UpdatePrincipal changes the roles of a principal (name or id) and whether it is
// disabled; nil leaves either as it is. The last admin of the platform stays one.
func (s *Store) UpdatePrincipal(ctx context.Context, actor certctl.Actor, ref string, patch certctl.PrincipalPatch) (certctl.Principal, error) {
	if patch.Roles != nil {
		var bad certctl.FieldErrors
		if checkRoles(&bad, *patch.Roles); bad.Err() != nil {
			return certctl.Principal{}, bad.Err()
		}
	}
	var changed certctl.Principal
	err := s.write(ctx, actor, func(t *tx) error {
		p, err := t.findPrincipal(ctx, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		roles, disabled := p.Roles, !p.DisabledAt.IsZero()
		if patch.Roles != nil {
			roles = *patch.Roles
		}
		if patch.Disabled != nil {
			disabled = *patch.Disabled
		}
		if err := t.put(ctx, `
			update principal set roles = $2, disabled_at = case when $3 then coalesce(disabled_at, now()) end where id = $1`,
			p.ID, roleNames(roles), disabled); err != nil {
			return err
		}
		if err := t.someAdminLeft(ctx, p); err != nil {
			return err
		}
		t.event(teamOf(p.Team), certctl.AggregateAccess, p.ID, certctl.EventPrincipalUpdated, map[string]any{
			"principal": p.ID, "name": p.Name, "roles": roles, "disabled": disabled,
		})
		changed, err = t.principal(ctx, p.ID)
		return err
	})
	return changed, err
}

// someAdminLeft refuses a change after which nobody could administer the
// platform. All admins are locked, so that two changes cannot pass each other.
func (t *tx) someAdminLeft(ctx context.Context, before certctl.Principal) error {
	if before.Team != "" || !slices.Contains(before.Roles, certctl.RoleAdmin) || !before.DisabledAt.IsZero() {
		return nil
	}
	if err := t.put(ctx, `select pg_advisory_xact_lock($1)`, lockKey("admins")); err != nil {
		return err
	}
	var left bool
	err := t.QueryRow(ctx, `
		select exists (select from principal where team_id is null and disabled_at is null and 'admin' = any(roles) and kind <> 'system')`).Scan(&left)
	if err == nil && !left {
		err = certctl.Errorf(certctl.Conflict, "%s is the last admin of the platform", before.Name).
			WithRemedy("make another admin first")
	}
	return err
}

// findPrincipal finds a principal that the actor may do verb to.
func (t *tx) findPrincipal(ctx context.Context, verb certctl.Verb, ref string) (certctl.Principal, error) {
	id, _ := certctl.ParseID(ref) // not an id: a name
	var ids []certctl.ID
	if err := t.QueryRow(ctx, `select array(select id from principal where id = $1 or name = $2)`, id, ref).Scan(&ids); err != nil {
		return certctl.Principal{}, err
	}
	all, err := t.principals(ctx, ids)
	if err != nil {
		return certctl.Principal{}, err
	}
	own := t.actor.Principal.Team
	if len(all) == 0 || own != "" && all[0].Team != own {
		return certctl.Principal{}, notFound(certctl.ObjectPrincipal, ref)
	}
	return all[0], certctl.Authorize(t.actor.Principal, verb, certctl.Object{Kind: certctl.ObjectPrincipal, Team: all[0].Team})
}

func (t *tx) principal(ctx context.Context, id certctl.ID) (certctl.Principal, error) {
	all, err := t.principals(ctx, []certctl.ID{id})
	if err == nil && len(all) == 0 {
		err = notFound(certctl.ObjectPrincipal, id.String())
	}
	if err != nil {
		return certctl.Principal{}, err
	}
	return all[0], nil
}

func (t *tx) principals(ctx context.Context, ids []certctl.ID) ([]certctl.Principal, error) {
	rows, err := t.Query(ctx, `
		select p.id, p.kind, p.name, coalesce(team.name, ''), p.roles, p.disabled_at
		from principal p left join team on team.id = p.team_id where p.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	var p certctl.Principal
	var roles []string
	read := make(map[certctl.ID]certctl.Principal, len(ids))
	_, err = pgx.ForEachRow(rows, []any{&p.ID, &p.Kind, &p.Name, &p.Team, &roles, &p.DisabledAt}, func() error {
		p.Roles = rolesOf(roles)
		read[p.ID] = p
		return nil
	})
	return inOrder(ids, read), err
}

func rolesOf(names []string) []certctl.Role {
	roles := make([]certctl.Role, len(names))
	for i, name := range names {
		roles[i] = certctl.Role(name)
	}
	return roles
}

// RecordDenied records that somebody tried what he may not. what names the
// operation. Whoever is nobody known is filed under the installation.
func (s *Store) RecordDenied(ctx context.Context, actor certctl.Actor, verb certctl.Verb, object certctl.Object, what string) error {
	return s.write(ctx, actor, func(t *tx) error {
		id := actor.Principal.ID
		if id.IsZero() {
			var err error
			if id, err = t.installation(ctx); err != nil {
				return err
			}
		}
		t.eventOutcome(teamOf(actor.Principal.Team), certctl.AggregateAccess, id, certctl.EventRequestDenied, certctl.OutcomeDenied, map[string]any{
			"principal": actor.Principal.ID, "verb": verb, "kind": object.Kind, "operation": certctl.Clip(what, 100),
		})
		return nil
	})
}

// lastUsedEvery is how stale a key's last use may be shown: noting each use would
// make a write of every request.
const lastUsedEvery = time.Minute
