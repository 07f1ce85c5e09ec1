package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// CreateReader records who may read events from the bus, and until when.
func (s *Store) CreateReader(ctx context.Context, actor certctl.Actor, reader certctl.Reader) (certctl.Reader, error) {
	var made certctl.Reader
	err := s.write(ctx, actor, func(t *tx) error {
		teamID, team, err := t.ownerTeam(ctx, reader.Team)
		if err != nil {
			return err
		}
		if err := certctl.Authorize(actor.Principal, certctl.VerbCreate, certctl.Object{Kind: certctl.ObjectEvent, Team: team}); err != nil {
			return err
		}
		if reader.Filters, err = t.checkReader(reader); err != nil {
			return err
		}
		id := certctl.NewID(t.now)
		_, err = t.Exec(ctx, `insert into reader (id, team_id, name, owner, filters, expires_at) values ($1, $2, $3, $4, $5, $6)`,
			id, teamID, reader.Name, reader.Owner, some(reader.Filters), reader.ExpiresAt)
		if err != nil {
			return nameTaken(err, "reader", reader.Name)
		}
		t.event(team, certctl.AggregateAccess, id, certctl.EventReaderCreated, map[string]any{
			"reader": id, "name": reader.Name, "filters": some(reader.Filters), "expires_at": reader.ExpiresAt.UTC(),
		})
		all, err := t.readers(ctx, []certctl.ID{id})
		if err == nil {
			made = all[0]
		}
		return err
	})
	return made, err
}

// checkReader returns the reader's filters as they are kept.
func (t *tx) checkReader(r certctl.Reader) ([]string, error) {
	var bad certctl.FieldErrors
	bad.AddError("/name", certctl.CheckObjectName(r.Name))
	if !r.ExpiresAt.After(t.now) {
		bad.Add("/expires_at", "must be in the future")
	}
	if err := bad.Err(); err != nil {
		return nil, err
	}
	return certctl.ReaderFilters(r.Filters)
}

// ListReaders returns one page of readers, newest first, former ones, too.
func (s *Store) ListReaders(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.Reader], error) {
	var page certctl.Page[certctl.Reader]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectEvent); err != nil {
			return err
		}
		c := &conditions{}
		t.inTeam(c, "o.team_id", filter.Team)
		ids, limit, err := t.listIDs(ctx, "reader o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		readers, err := t.readers(ctx, ids)
		page = pageOf(readers, limit, func(r certctl.Reader) certctl.ID { return r.ID })
		return err
	})
	return page, err
}

func (t *tx) readers(ctx context.Context, ids []certctl.ID) ([]certctl.Reader, error) {
	rows, err := t.Query(ctx, `
		select r.id, team.name, r.name, r.owner, r.filters, r.expires_at, r.revoked_at, r.created_at
		from reader r join team on team.id = r.team_id where r.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r certctl.Reader, err error) {
		return r, row.Scan(&r.ID, &r.Team, &r.Name, &r.Owner, &r.Filters, &r.ExpiresAt, &r.RevokedAt, &r.CreatedAt)
	})
	read := make(map[certctl.ID]certctl.Reader, len(all))
	for _, r := range all {
		read[r.ID] = r
	}
	return inOrder(ids, read), err
}

// LiveReaders returns the readers whose credentials have not expired, revoked
// ones among them: the bus must go on refusing those.
func (s *Store) LiveReaders(ctx context.Context) ([]certctl.Reader, error) {
	var all []certctl.Reader
	err := s.read(ctx, func(t *tx) error {
		var ids []certctl.ID
		err := t.QueryRow(ctx, `select array(select id from reader where expires_at > now() order by id)`).Scan(&ids)
		if err == nil {
			all, err = t.readers(ctx, ids)
		}
		return err
	})
	return all, err
}

// RevokeReader ends a reader before its time, by its id or by the name that it
// has until then. Revoking it again by its id changes nothing.
func (s *Store) RevokeReader(ctx context.Context, actor certctl.Actor, ref string) error {
	return s.write(ctx, actor, func(t *tx) error {
		r, err := t.readerCalled(ctx, ref)
		if err != nil {
			return err
		}
		if err := certctl.Authorize(actor.Principal, certctl.VerbDelete, certctl.Object{Kind: certctl.ObjectEvent, Team: r.Team}); err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `update reader set revoked_at = now() where id = $1 and revoked_at is null`, r.ID)
		if err == nil && tag.RowsAffected() > 0 {
			t.event(r.Team, certctl.AggregateAccess, r.ID, certctl.EventReaderRevoked, map[string]any{"reader": r.ID, "name": r.Name})
			t.hint(certctl.HintSystem, certctl.NoLane, r.ID) // whoever keeps the bus's accounts
		}
		return err
	})
}

// readerCalled finds a reader in what the actor sees.
func (t *tx) readerCalled(ctx context.Context, ref string) (certctl.Reader, error) {
	id, _ := certctl.ParseID(ref) // not an id: a name
	var ids []certctl.ID
	err := t.QueryRow(ctx, `select array(select r.id from reader r join team on team.id = r.team_id
		where (r.id = $1 or r.name = $2 and r.revoked_at is null) and $3 in ('', team.name))`, id, ref, t.actor.Principal.Team).Scan(&ids)
	if err != nil {
		return certctl.Reader{}, err
	}
	switch all, err := t.readers(ctx, ids); {
	case err != nil:
		return certctl.Reader{}, err
	case len(all) == 0:
		return certctl.Reader{}, notFound("reader", ref)
	case len(all) > 1:
		return certctl.Reader{}, certctl.Errorf(certctl.Conflict, "several teams have a reader called %s", certctl.Clip(ref, 100)).
			WithRemedy("revoke it by its id")
	default:
		return all[0], nil
	}
}
