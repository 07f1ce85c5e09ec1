package store

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// CreateIssuer stores a new CA connection. Whether its kind exists and its
// settings make sense is for the caller, who knows the drivers.
func (s *Store) CreateIssuer(ctx context.Context, actor certctl.Actor, request certctl.IssuerRequest) (certctl.Issuer, error) {
	if err := checkIssuer(&request); err != nil {
		return certctl.Issuer{}, err
	}
	var issuer certctl.Issuer
	err := s.write(ctx, actor, func(t *tx) error {
		teamID, team, err := t.ownerTeam(ctx, request.Team)
		if err != nil {
			return err
		}
		if err := t.may(certctl.VerbCreate, certctl.ObjectIssuer, found{team: team}); err != nil {
			return err
		}
		id := request.ID
		if id.IsZero() {
			id = certctl.NewID(t.now)
		}
		if _, err := t.Exec(ctx, `
			insert into issuer (id, team_id, name, kind, settings, sealed, trust, concurrency, rate_count, rate_period,
				duplicates_count, duplicates_period, priced)
			values ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8, $9, $10, $11, $12, $13)`,
			id, teamID, request.Name, request.Kind, string(request.Settings), request.Sealed, string(request.Trust), request.Concurrency,
			request.Rate.Count, int64(request.Rate.Per), request.Duplicates.Count, int64(request.Duplicates.Per), request.Priced); err != nil {
			return nameTaken(err, certctl.ObjectIssuer, request.Name)
		}
		if err := t.giveAccount(ctx, id, request.Account); err != nil {
			return err
		}
		t.event(team, certctl.AggregateIssuer, id, certctl.EventIssuerCreated, map[string]any{"name": request.Name, "kind": request.Kind})
		issuer, err = t.issuer(ctx, id)
		return err
	})
	return issuer, err
}

// GetIssuer returns one issuer, also an archived one by its id.
func (s *Store) GetIssuer(ctx context.Context, actor certctl.Actor, ref string) (certctl.Issuer, error) {
	var issuer certctl.Issuer
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectIssuer, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		issuer, err = t.issuer(ctx, f.id)
		return err
	})
	return issuer, err
}

// ListIssuers returns one page of the live issuers.
func (s *Store) ListIssuers(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.Issuer], error) {
	var page certctl.Page[certctl.Issuer]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectIssuer); err != nil {
			return err
		}
		c := &conditions{}
		c.add("o.archived_at is null")
		t.inTeam(c, "o.team_id", filter.Team)
		ids, limit, err := t.listIDs(ctx, "issuer o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		issuers, err := t.issuers(ctx, ids)
		page = pageOf(issuers, limit, func(i certctl.Issuer) certctl.ID { return i.ID })
		return err
	})
	return page, err
}

// UpdateIssuer changes an issuer's name, settings, secrets (kept when the
// request has none), account and limit; kind and trust are fixed, since they are what
// certificates were ordered for. What waits because of the issuer is tried again
// at once.
func (s *Store) UpdateIssuer(ctx context.Context, actor certctl.Actor, ref string, request certctl.IssuerRequest) (certctl.Issuer, error) {
	var issuer certctl.Issuer
	err := s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectIssuer, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		var archived bool
		kind, trust := "", ""
		if err := t.QueryRow(ctx, `select kind, trust, archived_at is not null from issuer where id = $1 for no key update`, f.id).
			Scan(&kind, &trust, &archived); err != nil {
			return err
		}
		if archived {
			return isArchived(certctl.ObjectIssuer, f.name)
		}
		if err := fixed(&request.Kind, kind, "/kind"); err != nil {
			return err
		}
		text := string(request.Trust)
		if err := fixed(&text, trust, "/trust"); err != nil {
			return err
		}
		request.Trust = certctl.TrustClass(text)
		if err := checkIssuer(&request); err != nil {
			return err
		}
		if _, err := t.Exec(ctx, `
			update issuer set name = $2, settings = $3::text::jsonb, sealed = coalesce($4, sealed), concurrency = $5,
				rate_count = $6, rate_period = $7, duplicates_count = $8, duplicates_period = $9, priced = $10,
				probe_at = case when health = 'down' then now() end, updated_at = now()
			where id = $1`, f.id, request.Name, string(request.Settings), request.Sealed, request.Concurrency,
			request.Rate.Count, int64(request.Rate.Per), request.Duplicates.Count, int64(request.Duplicates.Per), request.Priced); err != nil {
			return nameTaken(err, certctl.ObjectIssuer, request.Name)
		}
		if err := t.giveAccount(ctx, f.id, request.Account); err != nil {
			return err
		}
		if err := t.askAgain(ctx, f.id); err != nil {
			return err
		}
		t.event(f.team, certctl.AggregateIssuer, f.id, certctl.EventIssuerUpdated, map[string]any{"name": request.Name})
		issuer, err = t.issuer(ctx, f.id)
		return err
	})
	return issuer, err
}

// fixed refuses another value for what does not change; an empty one keeps it.
func fixed(given *string, value, field string) error {
	if *given != "" && *given != value {
		return certctl.InvalidField(field, "is %s and does not change: make another one", value)
	}
	*given = value
	return nil
}

// ArchiveIssuer ends an issuer; Conflict while certificates use it. What it has
// issued stays revocable through it.
func (s *Store) ArchiveIssuer(ctx context.Context, actor certctl.Actor, ref string) error {
	return s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectIssuer, certctl.VerbDelete, ref)
		if err != nil {
			return err
		}
		// Nobody begins to use the row while it is locked.
		if err := t.put(ctx, `select from issuer where id = $1 for update`, f.id); err != nil {
			return err
		}
		if err := t.unused(ctx, certctl.ObjectIssuer, f, "issuers @> array[$1::uuid]"); err != nil {
			return err
		}
		if err := t.untested(ctx, f); err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `update issuer set archived_at = now(), updated_at = now() where id = $1 and archived_at is null`, f.id)
		if err == nil && tag.RowsAffected() > 0 {
			t.event(f.team, certctl.AggregateIssuer, f.id, certctl.EventIssuerArchived, map[string]any{"name": f.name})
		}
		return err
	})
}

// untested refuses to archive an issuer at which tests run, or have left something:
// nobody works for one that is archived.
func (t *tx) untested(ctx context.Context, f found) error {
	var tests int
	err := t.QueryRow(ctx, `select count(*) from due where kind = $1 and lane = $2`, dueTrial, f.id.String()).Scan(&tests)
	if err != nil || tests == 0 {
		return err
	}
	return certctl.Errorf(certctl.Conflict, "%d tests of certificates run at the issuer %s, or are being cleaned up after", tests, f.name).
		WithRemedy("archive it when they have ended, which takes some minutes while a worker runs")
}

// PauseIssuer keeps an issuer from being asked, or has it asked again: what is
// under way ends, and what is due waits.
func (s *Store) PauseIssuer(ctx context.Context, actor certctl.Actor, ref string, pause bool) (certctl.Issuer, error) {
	var issuer certctl.Issuer
	err := s.write(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectIssuer, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `update issuer set paused = $2, updated_at = now() where id = $1 and paused <> $2 and archived_at is null`, f.id, pause)
		if err != nil {
			return err
		}
		if tag.RowsAffected() > 0 {
			name := certctl.EventIssuerPaused
			if !pause {
				name = certctl.EventIssuerResumed
			}
			t.event(f.team, certctl.AggregateIssuer, f.id, name, map[string]any{"name": f.name})
			if err := t.askAgain(ctx, f.id); err != nil {
				return err
			}
		}
		issuer, err = t.issuer(ctx, f.id)
		return err
	})
	return issuer, err
}

// askAgain has what waits for an issuer looked at now.
func (t *tx) askAgain(ctx context.Context, issuer certctl.ID) error {
	err := t.put(ctx, `update due set due_at = now() where verb = any($1) and lane = $2 and due_at > now()`,
		[]string{string(certctl.HintIssue), string(certctl.HintRevoke)}, issuer.String())
	return err
}

// checkIssuer refuses a request that no driver could serve, and fills in what it
// leaves out.
func checkIssuer(request *certctl.IssuerRequest) error {
	var bad certctl.FieldErrors
	bad.AddError("/name", certctl.CheckObjectName(request.Name))
	bad.AddError("/settings", asObject(&request.Settings))
	if request.Kind == "" {
		bad.Add("/kind", "is missing")
	}
	if request.Trust == "" {
		request.Trust = certctl.TrustPrivate
	}
	if request.Trust != certctl.TrustPrivate && request.Trust != certctl.TrustPublic {
		bad.Add("/trust", "must be public or private")
	}
	if request.Concurrency < 0 {
		bad.Add("/concurrency", "must not be negative; 0 means no limit")
	}
	if r := request.Rate; r.Count < 0 || r.Count > 0 && (time.Duration(r.Per) < time.Second || time.Duration(r.Per) > 31*certctl.Day) {
		bad.Add("/rate", "must be a number of requests per a time of 1s to 31d")
	}
	if d := request.Duplicates; d.Count < 0 || d.Count > 0 && (time.Duration(d.Per) < time.Second || time.Duration(d.Per) > 366*certctl.Day) {
		bad.Add("/duplicates", "must be a number of leaves per a time of 1s to 366d")
	}
	return bad.Err()
}

// asObject refuses settings that are not a JSON object; none are the empty one.
func asObject(settings *json.RawMessage) error {
	if len(bytes.TrimSpace(*settings)) == 0 {
		*settings = json.RawMessage("{}")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(*settings, &object); err != nil || object == nil {
		return certctl.Errorf(certctl.Invalid, "must be an object")
	}
	return nil
}

func (t *tx) issuer(ctx context.Context, id certctl.ID) (certctl.Issuer, error) {
	issuers, err := t.issuers(ctx, []certctl.ID{id})
	if err == nil && len(issuers) == 0 {
		err = notFound(certctl.ObjectIssuer, id.String())
	}
	if err != nil {
		return certctl.Issuer{}, err
	}
	return issuers[0], nil
}

// issuers reads issuers with their authorities, in the order of the ids.
func (t *tx) issuers(ctx context.Context, ids []certctl.ID) ([]certctl.Issuer, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := t.Query(ctx, `
		select i.id, team.name, i.name, i.kind, i.settings, i.trust, i.concurrency, i.rate_count, i.rate_period, i.down_since, i.health, i.health_reason, i.paused,
			i.created_at, i.updated_at, i.archived_at, i.duplicates_count, i.duplicates_period, i.priced
		from issuer i join team on team.id = i.team_id where i.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i certctl.Issuer, err error) {
		return i, row.Scan(&i.ID, &i.Team, &i.Name, &i.Kind, (*[]byte)(&i.Settings), &i.Trust, &i.Concurrency, &i.Rate.Count, (*int64)(&i.Rate.Per), &i.DownSince, &i.Health, &i.HealthReason,
			&i.Paused, &i.CreatedAt, &i.UpdatedAt, &i.ArchivedAt, &i.Duplicates.Count, (*int64)(&i.Duplicates.Per), &i.Priced)
	})
	read := make(map[certctl.ID]certctl.Issuer, len(all))
	for _, i := range all {
		read[i.ID] = i
	}
	return inOrder(ids, read), err
}

func (t *tx) issuersByID(ctx context.Context, ids []certctl.ID) (map[certctl.ID]certctl.Issuer, error) {
	all, err := t.issuers(ctx, ids)
	known := make(map[certctl.ID]certctl.Issuer, len(all))
	for _, i := range all {
		known[i.ID] = i
	}
	return known, err
}

// issuersWithSecrets reads issuers with their sealed secrets, by id.
func (t *tx) issuersWithSecrets(ctx context.Context, ids []certctl.ID) (map[certctl.ID]certctl.Issuer, map[certctl.ID][]byte, error) {
	known, err := t.issuersByID(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	sealed := make(map[certctl.ID][]byte, len(known))
	rows, err := t.Query(ctx, `select id, sealed from issuer where id = any($1)`, ids)
	if err != nil {
		return nil, nil, err
	}
	var id certctl.ID
	var secret []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &secret}, func() error {
		sealed[id] = bytes.Clone(secret)
		return nil
	})
	return known, sealed, err
}

// IssuerKinds returns the kinds of the issuers that are not archived: who of the
// workers and signers takes an issuer's lane follows from its kind.
func (s *Store) IssuerKinds(ctx context.Context) (map[certctl.ID]string, error) {
	kinds := map[certctl.ID]string{}
	err := s.read(ctx, func(t *tx) error {
		rows, err := t.Query(ctx, `select id, kind from issuer where archived_at is null`)
		if err != nil {
			return err
		}
		var id certctl.ID
		var kind string
		_, err = pgx.ForEachRow(rows, []any{&id, &kind}, func() error {
			kinds[id] = kind
			return nil
		})
		return err
	})
	return kinds, err
}
