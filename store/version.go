package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// GetVersion returns one version with its chain.
func (s *Store) GetVersion(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Version, error) {
	var version certctl.Version
	err := s.readAs(ctx, actor, func(t *tx) error {
		versions, err := t.versions(ctx, []certctl.ID{id})
		if err != nil {
			return err
		}
		if len(versions) == 0 {
			return notFound("version", id.String())
		}
		if err := t.ofCertificate(ctx, "version", id, versions[0].Certificate); err != nil {
			return err
		}
		version = versions[0]
		return nil
	})
	return version, err
}

// ListVersions returns one page of the versions that a filter selects, newest
// first.
func (s *Store) ListVersions(ctx context.Context, actor certctl.Actor, filter certctl.VersionFilter) (certctl.Page[certctl.Version], error) {
	var page certctl.Page[certctl.Version]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectCertificate); err != nil {
			return err
		}
		c := &conditions{}
		if !filter.Holder.IsZero() {
			// With the certificate's id, the index on it serves.
			c.add("o.certificate_id = (select certificate_id from holder where id = ?)", filter.Holder)
			c.add("o.holder_id = ?", filter.Holder)
		}
		if filter.Serial != "" {
			c.add("o.serial = ?", string(filter.Serial))
		}
		if err := t.belonging(ctx, c, filter.Certificate, filter.Team); err != nil {
			return err
		}
		ids, limit, err := t.listIDs(ctx, "version o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		versions, err := t.versions(ctx, ids)
		page = pageOf(versions, limit, func(v certctl.Version) certctl.ID { return v.ID })
		return err
	})
	return page, err
}

// CurrentVersions returns the live holders of a certificate, oldest first, each
// with its newest version if it has one.
func (s *Store) CurrentVersions(ctx context.Context, actor certctl.Actor, ref string) ([]certctl.HolderVersion, error) {
	var all []certctl.HolderVersion
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		holders, err := t.liveHolders(ctx, f.id)
		if err != nil {
			return err
		}
		ids := make([]certctl.ID, 0, len(holders))
		for _, h := range holders {
			ids = append(ids, h.Version)
		}
		versions, err := t.versions(ctx, ids)
		byID := make(map[certctl.ID]certctl.Version, len(versions))
		for _, v := range versions {
			byID[v.ID] = v
		}
		for _, h := range holders {
			all = append(all, certctl.HolderVersion{Holder: h, Version: byID[h.Version]})
		}
		return err
	})
	return all, err
}

// liveHolders returns the holders of a certificate that have not ended.
func (t *tx) liveHolders(ctx context.Context, certificate certctl.ID) ([]certctl.Holder, error) {
	rows, err := t.Query(ctx, `
		select h.id, h.certificate_id, h.kind, h.version_id, due.due_at, agent.id, coalesce(agent.name, '')
		from holder h left join agent on agent.id = h.agent_id
		left join due on due.kind = 'holder' and due.id = h.id
		where h.certificate_id = $1 and h.ended_at is null order by h.id`, certificate)
	if err != nil {
		return nil, err
	}
	holders, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h certctl.Holder, err error) {
		var member certctl.Ref
		err = row.Scan(&h.ID, &h.Certificate, &h.Kind, &h.Version, &h.RenewAt, &member.ID, &member.Name)
		if !member.ID.IsZero() {
			h.Members = []certctl.Ref{member}
		}
		return h, err
	})
	if err != nil {
		return nil, err
	}
	return holders, t.memberKeys(ctx, holders)
}

// versions reads versions with their chains, in the order of the ids.
func (t *tx) versions(ctx context.Context, ids []certctl.ID) ([]certctl.Version, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := t.Query(ctx, `select `+versionColumns+`
		from version v join certificate c on c.id = v.certificate_id join chain on chain.digest = v.chain_digest
		where v.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, scanVersion)
	read := make(map[certctl.ID]certctl.Version, len(all))
	for _, v := range all {
		read[v.ID] = v
	}
	return inOrder(ids, read), err
}

// versionColumns are what scanVersion reads, of version v, certificate c and chain.
const versionColumns = `v.id, v.certificate_id, v.holder_id, v.order_id, coalesce(v.attempt, 0), v.issuer_id, v.authority_id,
	v.revision, v.serial, v.fingerprint, v.spki, v.algorithm, v.not_before, v.not_after, v.leaf, chain.certs, v.origin,
	c.purpose, v.replaces, v.renew_at, v.revoked_at, v.revocation, v.created_at`

func scanVersion(row pgx.CollectableRow) (v certctl.Version, err error) {
	return v, row.Scan(&v.ID, &v.Certificate, &v.Holder, &v.Order, &v.Attempt, &v.Issuer, &v.Authority,
		&v.Revision, &v.Serial, &v.Fingerprint, &v.SPKI, &v.Algorithm, &v.NotBefore, &v.NotAfter, &v.Leaf, (*[][]byte)(&v.Chain), &v.Origin,
		&v.Purpose, &v.Replaces, &v.RenewAt, &v.RevokedAt, &v.Revocation, &v.CreatedAt)
}
