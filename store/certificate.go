package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// GetCertificate returns one certificate, also an archived one by its id.
func (s *Store) GetCertificate(ctx context.Context, actor certctl.Actor, ref string) (certctl.Certificate, error) {
	var certificate certctl.Certificate
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		certificate, err = t.certificate(ctx, f.id)
		return err
	})
	return certificate, err
}

func (t *tx) certificate(ctx context.Context, id certctl.ID) (certctl.Certificate, error) {
	certificates, err := t.certificates(ctx, []certctl.ID{id})
	if err == nil && len(certificates) == 0 {
		err = notFound(certctl.ObjectCertificate, id.String())
	}
	if err != nil {
		return certctl.Certificate{}, err
	}
	return certificates[0], nil
}

// certificates reads certificates with their bindings, in the order of the ids.
func (t *tx) certificates(ctx context.Context, ids []certctl.ID) ([]certctl.Certificate, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := t.Query(ctx, `
		select c.id, team.name, c.name, c.dns, c.ips, c.uris, c.emails, c.revision, c.issuers,
			p.id, p.name, r.id, r.name, c.key_mode, c.sharing, c.owner, c.labels, c.paused,
			c.status, c.status_reason, c.not_after, c.created_at, c.updated_at, c.archived_at
		from certificate c join team on team.id = c.team_id
		join profile p on p.id = c.profile_id join renewal_policy r on r.id = c.policy_id
		where c.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	read, issuers := make(map[certctl.ID]certctl.Certificate, len(ids)), make(map[certctl.ID][]certctl.ID, len(ids))
	for rows.Next() {
		var c certctl.Certificate
		var names []certctl.ID
		if err := rows.Scan(&c.ID, &c.Team, &c.Name, &c.Names.DNS, &c.Names.IP, &c.Names.URI, &c.Names.Email, &c.Revision, &names,
			&c.Profile.ID, &c.Profile.Name, &c.RenewalPolicy.ID, &c.RenewalPolicy.Name, &c.KeyMode, &c.Sharing, &c.Owner, &c.Labels, &c.Paused,
			&c.Status, &c.StatusReason, &c.NotAfter, &c.CreatedAt, &c.UpdatedAt, &c.ArchivedAt); err != nil {
			return nil, err
		}
		read[c.ID], issuers[c.ID] = c, names
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	out := inOrder(ids, read)
	if err := t.addIssuers(ctx, out, issuers); err != nil {
		return nil, err
	}
	return out, t.addBindings(ctx, out)
}

// addIssuers names the certificates' issuers.
func (t *tx) addIssuers(ctx context.Context, certificates []certctl.Certificate, issuers map[certctl.ID][]certctl.ID) error {
	wanted := map[certctl.ID]bool{}
	for _, ids := range issuers {
		for _, id := range ids {
			wanted[id] = true
		}
	}
	rows, err := t.Query(ctx, `select id, name from issuer where id = any($1)`, keysOf(wanted))
	if err != nil {
		return err
	}
	refs := make(map[certctl.ID]certctl.Ref, len(wanted))
	var ref certctl.Ref
	_, err = pgx.ForEachRow(rows, []any{&ref.ID, &ref.Name}, func() error {
		refs[ref.ID] = ref
		return nil
	})
	for i := range certificates {
		certificates[i].Issuers = inOrder(issuers[certificates[i].ID], refs)
	}
	return err
}

// addBindings adds the certificates' live bindings, oldest first.
func (t *tx) addBindings(ctx context.Context, certificates []certctl.Certificate) error {
	ids, places := make([]certctl.ID, len(certificates)), make(map[certctl.ID]int, len(certificates))
	for i, c := range certificates {
		ids[i], places[c.ID] = c.ID, i
	}
	rows, err := t.Query(ctx, `
		select b.id, b.certificate_id, b.target_id, target.name, target.agent_id, b.place, b.slot, b.number, b.created_at, b.unbound_at
		from binding b join target on target.id = b.target_id
		where b.certificate_id = any($1) and b.unbound_at is null order by b.id`, ids)
	if err != nil {
		return err
	}
	var b certctl.Binding
	_, err = pgx.ForEachRow(rows, []any{&b.ID, &b.Certificate, &b.Target.ID, &b.Target.Name, &b.Agent, &b.Place, &b.Slot,
		&b.Number, &b.CreatedAt, &b.UnboundAt}, func() error {
		c := &certificates[places[b.Certificate]]
		c.Bindings = append(c.Bindings, b)
		return nil
	})
	return err
}
