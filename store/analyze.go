package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// AnalyzeGrown has PostgreSQL count tables again that have more than twice the
// rows it knew of, and returns their names. Plans that were made for the smaller
// tables are made anew then.
//
// Autovacuum does this, too, but looks once a minute: a fleet that is enrolled
// within one would be served by plans that read a table from end to end because
// it was empty when they were made. Tables that somebody else analyses at this
// moment, or owns, are left alone.
func (s *Store) AnalyzeGrown(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, `
		select c.relname, t.n_live_tup from pg_stat_user_tables t join pg_class c on c.oid = t.relid
		where t.schemaname = current_schema and c.relkind = 'r' and pg_has_role(c.relowner, 'usage')
			and t.n_live_tup > 2 * greatest(c.reltuples, 0) + $1 order by c.relname`, analyzeFrom)
	if err != nil {
		return nil, failed(err, "the sizes of tables could not be read")
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t grownTable, err error) {
		return t, row.Scan(&t.name, &t.rows)
	})
	if err != nil {
		return nil, failed(err, "the sizes of tables could not be read")
	}
	names := make([]string, len(tables))
	for i, table := range tables {
		names[i] = table.name
		if err := s.analyze(ctx, table); err != nil {
			return nil, failed(err, "a table could not be analysed")
		}
	}
	return names, nil
}

type grownTable struct {
	name string
	rows int64
}

// analyze counts small tables with a tenth of the usual sample, which reads all of
// them: how many rows there are is what their plans turn on. In bulk issuance the
// usual samples took a tenth of PostgreSQL's CPU, most of it while tables were small.
func (s *Store) analyze(ctx context.Context, table grownTable) error {
	return transact(ctx, s.pool, beginWrite, &tx{}, func(t *tx) error {
		if table.rows < analyzeClosely {
			if err := t.put(ctx, `set local default_statistics_target = 10`); err != nil {
				return err
			}
		}
		return t.put(ctx, `analyze (skip_locked) `+pgx.Identifier{table.name}.Sanitize())
	})
}

// analyzeFrom is how many rows make it worth while: one page or two are read at
// once whatever the plan.
const analyzeFrom = 50

// analyzeClosely is from how many rows on PostgreSQL's own sample is taken: what is
// rare and what is common counts there.
const analyzeClosely = 50_000
