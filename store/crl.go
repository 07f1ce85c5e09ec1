package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// DueCRLs returns those of the authorities that still have lists to sign: they
// have a certificate, are not retired, and their lists are due or were claimed.
func (s *Store) DueCRLs(ctx context.Context, ids []certctl.ID) ([]certctl.CRLJob, error) {
	var jobs []certctl.CRLJob
	err := s.read(ctx, func(t *tx) error {
		all, err := t.authorities(ctx, `a.id = any($1) and a.certificate is not null and a.state <> 'retired'`, ids)
		if err != nil {
			return err
		}
		rows, err := t.Query(ctx, `select id, due_at from due where kind = 'crl' and id = any($1)`, ids)
		if err != nil {
			return err
		}
		times := map[certctl.ID]time.Time{}
		var id certctl.ID
		var at time.Time
		if _, err := pgx.ForEachRow(rows, []any{&id, &at}, func() error {
			times[id] = at
			return nil
		}); err != nil {
			return err
		}
		for _, a := range all {
			if at, due := times[a.ID]; due {
				jobs = append(jobs, certctl.CRLJob{Authority: a, DueAt: at})
			}
		}
		return nil
	})
	return jobs, err
}

// RevokedEntries returns what must be on an authority's next list of a shard
// (certctl.CompleteCRL: all of it), by serial number. An entry stays until it
// was on one list issued after its notAfter (RFC 5280 section 3.3).
func (s *Store) RevokedEntries(ctx context.Context, authority certctl.ID, shard int) ([]certctl.RevokedEntry, error) {
	var entries []certctl.RevokedEntry
	err := s.read(ctx, func(t *tx) error {
		var shards int
		if err := t.QueryRow(ctx, `select shards from authority where id = $1`, authority).Scan(&shards); err != nil {
			return orNotFound(err, "authority", authority)
		}
		c := &conditions{args: []any{authority, shard}}
		if shard != certctl.CompleteCRL {
			c.add("lpad(right(v.serial, 4), 4, '0') = any(?)", lowBits(shard, shards))
		}
		rows, err := t.list(ctx, `
			with last as (select coalesce(max(this_update), '-infinity') as at from crl where authority_id = $1 and shard = $2)
			select v.serial, v.revoked_at, v.revocation, v.not_after from (
				select authority_id, serial, revoked_at, revocation, not_after from version
				union all select authority_id, serial, revoked_at, revocation, not_after from version_stub) v, last
			where v.authority_id = $1 and v.revoked_at is not null and (v.not_after > last.at or v.revoked_at > last.at) and `+c.String(), c)
		if err != nil {
			return err
		}
		entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e certctl.RevokedEntry, err error) {
			return e, row.Scan(&e.Serial, &e.RevokedAt, &e.Reason, &e.NotAfter)
		})
		return err
	})
	slices.SortFunc(entries, func(a, b certctl.RevokedEntry) int {
		return cmp.Or(cmp.Compare(len(a.Serial), len(b.Serial)), cmp.Compare(a.Serial, b.Serial))
	})
	// A late signature on what was signed before gives two versions of one serial.
	return slices.CompactFunc(entries, func(a, b certctl.RevokedEntry) bool { return a.Serial == b.Serial }), err
}

// SaveCRL stores a signed list. Its number must be above that of the stored one
// (RFC 5280 section 5.2.3), else Conflict: another signer was faster.
func (s *Store) SaveCRL(ctx context.Context, crl certctl.CRL) error {
	tag, err := s.pool.Exec(ctx, `
		insert into crl as old (authority_id, shard, number, der, this_update, next_update) values ($1, $2, $3, $4, $5, $6)
		on conflict (authority_id, shard) do update set number = excluded.number, der = excluded.der,
			this_update = excluded.this_update, next_update = excluded.next_update
		where old.number < excluded.number`,
		crl.Authority, crl.Shard, crl.Number, crl.DER, crl.ThisUpdate, crl.NextUpdate)
	if err == nil && tag.RowsAffected() == 0 {
		return certctl.Errorf(certctl.Conflict, "a revocation list with number %d or above is published already", crl.Number)
	}
	return failed(err, "the revocation list could not be stored")
}

// GetCRL returns the newest list of an authority's shard.
func (s *Store) GetCRL(ctx context.Context, authority certctl.ID, shard int) (certctl.CRL, error) {
	crl := certctl.CRL{Authority: authority, Shard: shard}
	err := s.pool.QueryRow(ctx, `
		select number, der, this_update, next_update from crl where authority_id = $1 and shard = $2`, authority, shard).
		Scan(&crl.Number, &crl.DER, &crl.ThisUpdate, &crl.NextUpdate)
	return crl, failed(orNotFound(err, "revocation list of authority", authority), "the revocation list could not be read")
}

// FinishCRLs makes an authority's lists due again at next. When anything was
// revoked since DueCRLs, they stay due: it may not be on them.
func (s *Store) FinishCRLs(ctx context.Context, job certctl.CRLJob, next time.Time) error {
	_, err := s.pool.Exec(ctx, `update due set due_at = $3 where kind = 'crl' and id = $1 and due_at = $2`, job.Authority.ID, job.DueAt, next)
	return failed(err, "the lists' next time could not be recorded")
}

// MarkCRLDue has authorities' lists signed anew now.
func (s *Store) MarkCRLDue(ctx context.Context, authorities ...certctl.ID) error {
	return s.write(ctx, certctl.SystemActor("signer"), func(t *tx) error { return t.markCRLDue(ctx, authorities...) })
}

func (t *tx) markCRLDue(ctx context.Context, authorities ...certctl.ID) error {
	rows := make([]dueRow, len(authorities))
	for i, id := range authorities {
		rows[i] = dueRow{kind: dueCRL, id: id, verb: certctl.HintCRL, at: t.now.Add(agentReminder)}
	}
	t.hints(certctl.HintCRL, certctl.NoLane, authorities)
	return t.due(ctx, rows...)
}

// lowBits returns the last two octets, in hex digits, of the serial numbers that
// belong to a shard: shard = low 16 bits of the serial modulo the number of
// shards (PKI: the same arithmetic chooses the URL in each leaf).
func lowBits(shard, shards int) []string {
	var all []string
	for low := shard; low < 1<<16; low += max(shards, 1) {
		all = append(all, fmt.Sprintf("%04x", low))
	}
	return all
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
