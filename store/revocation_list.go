package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// ListRevocations returns one page of the revocations that a filter selects, by
// version, newest first.
func (s *Store) ListRevocations(ctx context.Context, actor certctl.Actor, filter certctl.RevocationFilter) (certctl.Page[certctl.Revocation], error) {
	var page certctl.Page[certctl.Revocation]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectCertificate); err != nil {
			return err
		}
		c := &conditions{}
		c.add("exists (select from revocation r where r.version_id = o.id and (? = '' or r.state = ?))", string(filter.State), string(filter.State))
		if err := t.belonging(ctx, c, filter.Certificate, filter.Team); err != nil {
			return err
		}
		ids, limit, err := t.listIDs(ctx, "version o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		revocations, err := t.revocations(ctx, ids)
		page = pageOf(revocations, limit, func(r certctl.Revocation) certctl.ID { return r.Version })
		return err
	})
	return page, err
}

// revocations reads revocations with their due times, in the order of the ids.
func (t *tx) revocations(ctx context.Context, versions []certctl.ID) ([]certctl.Revocation, error) {
	rows, err := t.Query(ctx, `
		select r.version_id, c.id, c.name, v.holder_id, v.serial, r.issuer_id, r.reason, r.state, r.rollout_id, r.tries, r.message,
			due.due_at, r.created_at, r.updated_at
		from revocation r join version v on v.id = r.version_id join certificate c on c.id = v.certificate_id
		left join due on due.kind = 'revocation' and due.id = r.version_id
		where r.version_id = any($1)`, versions)
	if err != nil {
		return nil, err
	}
	read := make(map[certctl.ID]certctl.Revocation, len(versions))
	var r certctl.Revocation
	_, err = pgx.ForEachRow(rows, []any{&r.Version, &r.Certificate.ID, &r.Certificate.Name, &r.Holder, &r.Serial, &r.Issuer, &r.Reason, &r.State,
		&r.Rollout, &r.Tries, &r.Message, &r.DueAt, &r.CreatedAt, &r.UpdatedAt}, func() error {
		read[r.Version] = r
		return nil
	})
	return inOrder(versions, read), err
}

// CancelRevocation ends a revocation that waits for its replacement: the version
// stays good. The order of the replacement goes on.
func (s *Store) CancelRevocation(ctx context.Context, actor certctl.Actor, version certctl.ID) (certctl.Revocation, error) {
	var revocation certctl.Revocation
	err := s.write(ctx, actor, func(t *tx) error {
		c := &conditions{}
		c.add("v.id = ?", version)
		versions, err := t.revocables(ctx, c)
		if err != nil {
			return err
		}
		if len(versions) == 0 {
			return notFound("revocation", version.String())
		}
		if _, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbRevoke, versions[0].certificate.String()); err != nil {
			if certctl.ErrorCode(err) == certctl.NotFound {
				err = notFound("revocation", version.String())
			}
			return err
		}
		if err := t.lockCertificates(ctx, versions[0].certificate); err != nil {
			return err
		}
		all, err := t.revocations(ctx, []certctl.ID{version})
		switch {
		case err != nil:
			return err
		case len(all) == 0:
			return notFound("revocation", version.String())
		case all[0].State != certctl.RevocationWaiting:
			return certctl.Errorf(certctl.Conflict, "this revocation is %s: only one that waits for a replacement can be cancelled", all[0].State)
		}
		if err := t.cancelRevocations(ctx, versions, "cancelled by "+actor.Principal.Name); err != nil {
			return err
		}
		all, err = t.revocations(ctx, []certctl.ID{version})
		if err == nil {
			revocation = all[0]
		}
		return err
	})
	return revocation, err
}
