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
		select c.relname from pg_stat_user_tables t join pg_class c on c.oid = t.relid
		where t.schemaname = current_schema and c.relkind = 'r' and pg_has_role(c.relowner, 'usage')
			and t.n_live_tup > 2 * greatest(c.reltuples, 0) + $1 order by c.relname`, analyzeFrom)
	if err != nil {
		return nil, failed(err, "the sizes of tables could not be read")
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, failed(err, "the sizes of tables could not be read")
	}
	for _, table := range tables {
		if _, err := s.pool.Exec(ctx, `analyze (skip_locked) `+pgx.Identifier{table}.Sanitize()); err != nil {
			return nil, failed(err, "a table could not be analysed")
		}
	}
	return tables, nil
}

// analyzeFrom is how many rows make it worth while: one page or two are read at
// once whatever the plan.
const analyzeFrom = 50
