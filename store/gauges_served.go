package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// servedGauges reads when what is served ends. The newest leaf of a certificate
// counts, unless an order or a deployment is open: then a target may still serve
// the one before, and what ends first counts. Certificates of which nothing is
// served yet are left out. The issuer is the certificate's first.
func (s *Store) servedGauges(ctx context.Context) ([]Gauge, error) {
	var all []Gauge
	err := s.read(ctx, func(t *tx) error {
		rows, err := t.Query(ctx, `
			with open as (
				select o.holder_id as id from due join cert_order o on o.id = due.id where due.kind = 'order'
				union select b.holder_id from due join deployment d on d.id = due.id join binding b on b.id = d.binding_id
					where due.kind = 'deployment' and b.holder_id is not null),
			late as (
				select certificate_id, min(not_after) as ends from (
					select h.certificate_id, v.not_after from open join holder h using (id) join binding b on b.holder_id = h.id and b.unbound_at is null
					cross join lateral (
						select version_id from deployment where binding_id = b.id and state in ('verified', 'installed')
						order by number desc, verified_at desc nulls last, id desc limit 1) served
					join version v on v.id = served.version_id where h.ended_at is null
					union all
					select h.certificate_id, v.not_after from open join holder h using (id) join version v on v.id = h.version_id
					where h.ended_at is null and not exists (select from binding where holder_id = h.id and unbound_at is null)) s
				group by certificate_id),
			served as (
				select c.issuers[1] as issuer_id, least(case when c.status in ('active', 'degraded') then c.not_after end, late.ends) as ends
				from certificate c left join late on late.certificate_id = c.id where c.archived_at is null)
			select coalesce(i.name, ''), case when ends <= now() then 'none' when ends <= now() + interval '1 day' then '1d'
				when ends <= now() + interval '7 days' then '7d' when ends <= now() + interval '30 days' then '30d'
				when ends <= now() + interval '90 days' then '90d' else 'more' end,
				extract(epoch from min(ends))::float8, count(*)::float8
			from served left join issuer i on i.id = issuer_id where ends is not null group by 1, 2`)
		if err != nil {
			return err
		}
		all, err = servedByIssuerAndLife(rows)
		return err
	})
	return all, err
}

// servedByIssuerAndLife makes two measures of rows that are grouped by both.
func servedByIssuerAndLife(rows pgx.Rows) ([]Gauge, error) {
	first, lives := map[string]float64{}, map[string]float64{"none": 0, "1d": 0, "7d": 0, "30d": 0, "90d": 0, "more": 0}
	var issuer, left string
	var ends, count float64
	if _, err := pgx.ForEachRow(rows, []any{&issuer, &left, &ends, &count}, func() error {
		if known, ok := first[issuer]; !ok || ends < known {
			first[issuer] = ends
		}
		lives[left] += count
		return nil
	}); err != nil {
		return nil, err
	}
	var all []Gauge
	for issuer, ends := range first {
		all = append(all, Gauge{MeasureExpiry, issuer, ends})
	}
	for left, count := range lives {
		all = append(all, Gauge{MeasureServed, left, count})
	}
	return all, nil
}
