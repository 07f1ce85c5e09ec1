package store_test

import (
	"slices"
	"testing"
)

// A table that has grown since PostgreSQL looked is looked at again, once.
func TestAnalyzeGrown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`alter table blocked_key set (autovacuum_enabled = false)`)
	w.exec(`analyze blocked_key`)
	grown := func() bool {
		t.Helper()
		tables, err := w.AnalyzeGrown(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(tables, "blocked_key")
	}
	for step, s := range []struct {
		rows int
		want bool
	}{{40, false}, {60, true}, {80, false}, {400, true}} {
		// In one statement: the counters are of one session then, which sends them at its end.
		w.exec(`with flushed as materialized (select pg_stat_force_next_flush())
			insert into blocked_key (spki, reason) select sha256($1 || i::text::bytea), 'superseded' from flushed, generate_series(1, $2::int) i`,
			[]byte{byte(step)}, s.rows)
		if got := grown(); got != s.want {
			t.Errorf("%d more rows: analysed: %t", s.rows, got)
		}
		if s.want && grown() {
			t.Error("analysed twice")
		}
	}
	if known := w.count(`select reltuples::int8 from pg_class where relname = 'blocked_key'`); known != 580 {
		t.Errorf("%d rows are known", known)
	}
}
