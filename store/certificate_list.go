package store

import (
	"context"
	"net/netip"
	"strings"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// ListCertificates returns one page of the certificates that a filter selects,
// newest first.
func (s *Store) ListCertificates(ctx context.Context, actor certctl.Actor, filter certctl.CertificateFilter) (certctl.Page[certctl.Certificate], error) {
	var page certctl.Page[certctl.Certificate]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectCertificate); err != nil {
			return err
		}
		from, c, err := t.certificateConditions(ctx, filter)
		if err != nil {
			return err
		}
		ids, limit, err := t.listIDs(ctx, from, c, filter.PageRequest)
		if err != nil {
			return err
		}
		certificates, err := t.certificates(ctx, ids)
		page = pageOf(certificates, limit, func(c certctl.Certificate) certctl.ID { return c.ID })
		return err
	})
	return page, err
}

// certificateConditions turns a filter into clauses that indexes can answer, and
// the tables that they are about: what looks for a status or an end goes by the
// indexes of certificate_state.
func (t *tx) certificateConditions(ctx context.Context, f certctl.CertificateFilter) (from string, c *conditions, err error) {
	from, c = "certificate o", &conditions{}
	archived := f.Archived || f.Status == certctl.StatusArchived
	if archived || f.Status != "" || !f.ExpiresBefore.IsZero() {
		before, _, err := pageBounds(f.PageRequest)
		if err != nil {
			return "", nil, err
		}
		from = "certificate o join certificate_state s on s.certificate_id = o.id"
		c.add("s.certificate_id < ?", before)
	}
	// As archived_at says it; but without statistics the planner takes "is null" to
	// be rare, and "not archived" to be common.
	if archived {
		c.add("s.status = ?", string(certctl.StatusArchived))
	} else {
		c.add("o.status <> ?", string(certctl.StatusArchived))
	}
	if f.Status != "" {
		c.add("s.status = ?", string(f.Status))
	}
	if !f.ExpiresBefore.IsZero() {
		c.add("s.not_after < ?", f.ExpiresBefore)
	}
	t.inTeam(c, "o.team_id", f.Team)
	if len(f.Label) > 0 {
		c.add("o.labels @> ?", f.Label)
	}
	if f.Name != "" {
		addName(c, f.Name)
	}
	if err := t.addUsers(ctx, c, f); err != nil {
		return "", nil, err
	}
	return from, c, t.addQuery(ctx, c, strings.TrimSpace(f.Query))
}

// addName selects by exact name, or by a prefix when it ends in '*'.
func addName(c *conditions, name string) {
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		c.add(namePrefix, prefix, prefix+afterNames)
		return
	}
	c.add("o.name = ?", name)
}

// namePrefix compares bytes, as the index for it does (text_pattern_ops). Names
// are ASCII, so afterNames is above whatever follows a prefix.
const (
	namePrefix = "o.name ~>=~ ? and o.name ~<~ ?"
	afterNames = "\x7f"
)

// addUsers selects by what a certificate refers to: its issuer, and the targets
// and agents of its live bindings.
func (t *tx) addUsers(ctx context.Context, c *conditions, f certctl.CertificateFilter) error {
	const bound = "o.id in (select b.certificate_id from binding b where b.unbound_at is null and "
	if f.Issuer != "" {
		issuer, err := t.one(ctx, certctl.ObjectIssuer, certctl.VerbRead, f.Issuer)
		if err != nil {
			return err
		}
		c.add("o.issuers @> ?", []certctl.ID{issuer.id})
	}
	if f.Target != "" {
		target, err := t.one(ctx, certctl.ObjectTarget, certctl.VerbRead, f.Target)
		if err != nil {
			return err
		}
		c.add(bound+"b.target_id = ?)", target.id)
	}
	if f.Agent != "" {
		agent, err := t.one(ctx, certctl.ObjectAgent, certctl.VerbRead, f.Agent)
		if err != nil {
			return err
		}
		c.add(bound+"b.target_id in (select id from target where agent_id = ?))", agent.id)
	}
	return nil
}

// addQuery selects what a person may mean by a text: a subject alternative name,
// the beginning of a certificate's name, or a serial number in any notation.
//
// What matches exactly is looked up first: together with an order and a limit
// the planner expects so many matches that it walks the table to find them.
func (t *tx) addQuery(ctx context.Context, c *conditions, text string) error {
	if text == "" {
		return nil
	}
	exact := &conditions{}
	exact.add("select id from certificate where dns @> ?", []string{strings.ToLower(strings.TrimSuffix(text, "."))})
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		exact.add("select id from certificate where ips @> ? and ips <> '{}'", []netip.Addr{addr.Unmap()})
	}
	if strings.Contains(text, ":") {
		exact.add("select id from certificate where uris @> ? and uris <> '{}'", []string{text})
	}
	if local, domain, found := strings.Cut(text, "@"); found {
		exact.add("select id from certificate where emails @> ? and emails <> '{}'", []string{local + "@" + strings.ToLower(domain)})
	}
	if serial, err := certctl.ParseSerial(text); err == nil {
		exact.add("select certificate_id from version where serial = ?", string(serial))
	}
	rows, err := t.list(ctx, strings.Join(exact.clauses, " union all "), exact)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[certctl.ID])
	if err != nil {
		return err
	}
	c.add(namePrefix+" or o.id = any(?)", text, text+afterNames, some(ids))
	return nil
}
