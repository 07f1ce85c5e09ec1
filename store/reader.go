package store

import (
	"context"
	"slices"

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
		if err := t.checkReader(reader); err != nil {
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

func (t *tx) checkReader(r certctl.Reader) error {
	var bad certctl.FieldErrors
	bad.AddError("/name", certctl.CheckObjectName(r.Name))
	known := []certctl.Aggregate{certctl.AggregateCertificate, certctl.AggregateAgent, certctl.AggregateTarget, certctl.AggregateIssuer,
		certctl.AggregateProfile, certctl.AggregatePolicy, certctl.AggregateAccess, certctl.AggregateSystem}
	for _, filter := range r.Filters {
		if !slices.Contains(known, certctl.Aggregate(filter)) {
			bad.Add("/filters", "%q is not a kind of object that events are about", certctl.Clip(filter, 40))
		}
	}
	if !r.ExpiresAt.After(t.now) {
		bad.Add("/expires_at", "must be in the future")
	}
	return bad.Err()
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

// RevokeReader ends a reader before its time. Revoking it again changes nothing.
func (s *Store) RevokeReader(ctx context.Context, actor certctl.Actor, id certctl.ID) error {
	return s.write(ctx, actor, func(t *tx) error {
		all, err := t.readers(ctx, []certctl.ID{id})
		if err != nil {
			return err
		}
		if own := t.actor.Principal.Team; len(all) == 0 || own != "" && own != all[0].Team {
			return notFound("reader", id.String())
		}
		if err := certctl.Authorize(actor.Principal, certctl.VerbDelete, certctl.Object{Kind: certctl.ObjectEvent, Team: all[0].Team}); err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `update reader set revoked_at = now() where id = $1 and revoked_at is null`, id)
		if err == nil && tag.RowsAffected() > 0 {
			t.event(all[0].Team, certctl.AggregateAccess, id, certctl.EventReaderRevoked, map[string]any{"reader": id, "name": all[0].Name})
			t.hint(certctl.HintSystem, certctl.NoLane, id) // whoever keeps the bus's accounts
		}
		return err
	})
}
