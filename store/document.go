package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/certctl/certctl"
)

// document is a kind of named object whose content is stored as JSON, since the
// database never looks into it: profiles and renewal policies.
type document struct {
	kind                       certctl.ObjectKind
	aggregate                  certctl.Aggregate
	created, updated, archived certctl.EventName
	column                     string // of certificate, that refers to it
}

func profileDocument() document {
	return document{certctl.ObjectProfile, certctl.AggregateProfile, certctl.EventProfileCreated,
		certctl.EventProfileUpdated, certctl.EventProfileArchived, "profile_id"}
}

func policyDocument() document {
	return document{certctl.ObjectRenewalPolicy, certctl.AggregatePolicy, certctl.EventPolicyCreated,
		certctl.EventPolicyUpdated, certctl.EventPolicyArchived, "policy_id"}
}

// create stores a new document and returns its id.
func (d document) create(ctx context.Context, t *tx, team, name string, body any) (certctl.ID, error) {
	teamID, team, err := t.ownerTeam(ctx, team)
	if err != nil {
		return certctl.NoID, err
	}
	if err := t.may(certctl.VerbCreate, d.kind, found{team: team}); err != nil {
		return certctl.NoID, err
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return certctl.NoID, err
	}
	id := certctl.NewID(t.now)
	_, err = t.Exec(ctx, fmt.Sprintf(`insert into %s (id, team_id, name, body) values ($1, $2, $3, $4::text::jsonb)`, d.kind),
		id, teamID, name, string(encoded))
	if err != nil {
		return certctl.NoID, nameTaken(err, d.kind, name)
	}
	t.event(team, d.aggregate, id, d.created, map[string]any{"name": name})
	return id, nil
}

// update replaces a document's name and content.
func (d document) update(ctx context.Context, t *tx, ref, name string, body any) (certctl.ID, error) {
	f, err := t.one(ctx, d.kind, certctl.VerbUpdate, ref)
	if err != nil {
		return certctl.NoID, err
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return certctl.NoID, err
	}
	tag, err := t.Exec(ctx, fmt.Sprintf(`update %s set name = $2, body = $3::text::jsonb, updated_at = now()
		where id = $1 and archived_at is null`, d.kind), f.id, name, string(encoded))
	if err != nil {
		return certctl.NoID, nameTaken(err, d.kind, name)
	}
	if tag.RowsAffected() == 0 {
		return certctl.NoID, isArchived(d.kind, f.name)
	}
	t.event(f.team, d.aggregate, f.id, d.updated, map[string]any{"name": name})
	return f.id, nil
}

// archive ends a document that no certificate uses. The row's lock keeps
// certificates from beginning to use it meanwhile.
func (d document) archive(ctx context.Context, t *tx, ref string) error {
	f, err := t.one(ctx, d.kind, certctl.VerbDelete, ref)
	if err != nil {
		return err
	}
	if err := t.put(ctx, fmt.Sprintf(`select from %s where id = $1 for update`, d.kind), f.id); err != nil {
		return err
	}
	if err := t.unused(ctx, d.kind, f, d.column+" = $1"); err != nil {
		return err
	}
	tag, err := t.Exec(ctx, fmt.Sprintf(`update %s set archived_at = now(), updated_at = now()
		where id = $1 and archived_at is null`, d.kind), f.id)
	if err == nil && tag.RowsAffected() > 0 {
		t.event(f.team, d.aggregate, f.id, d.archived, map[string]any{"name": f.name})
	}
	return err
}

// list returns the ids of a page of live documents.
func (d document) list(ctx context.Context, t *tx, filter certctl.NamedFilter) ([]certctl.ID, int, error) {
	if err := t.mayList(d.kind); err != nil {
		return nil, 0, err
	}
	c := &conditions{}
	c.add("o.archived_at is null")
	t.inTeam(c, "o.team_id", filter.Team)
	return t.listIDs(ctx, string(d.kind)+" o", c, filter.PageRequest)
}

// unused refuses to archive what live certificates use, and names one of them.
// $1 in the clause is the object.
func (t *tx) unused(ctx context.Context, kind certctl.ObjectKind, f found, clause string) error {
	var users int
	var example string
	err := t.QueryRow(ctx, `select count(*), coalesce(min(name), '') from certificate where archived_at is null and `+clause, f.id).
		Scan(&users, &example)
	if err != nil || users == 0 {
		return err
	}
	return certctl.Errorf(certctl.Conflict, "%d certificates use the %s %s, among them %s", users, spoken(kind), f.name, example).
		WithRemedy("give them another %s first, or archive them", spoken(kind))
}

// nameTaken says whose name a new or renamed object would take, if that is why
// the statement failed.
func nameTaken(err error, kind certctl.ObjectKind, name string) error {
	if !conflictOn(err, string(kind)+"_name") {
		return err
	}
	return nameConflict(kind, name, err)
}

func nameConflict(kind certctl.ObjectKind, name string, cause error) *certctl.Error {
	e := certctl.Wrap(certctl.Conflict, cause, "there is already a %s named %q", spoken(kind), name).
		WithRemedy("choose another name, or change that one")
	e.Fields = []certctl.FieldError{{Field: "/name", Message: "is taken"}}
	return e
}

func isArchived(kind certctl.ObjectKind, name string) error {
	return certctl.Errorf(certctl.Gone, "the %s %s is archived", spoken(kind), name)
}
