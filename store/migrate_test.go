package store_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/migrations"
	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/storetest"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The first number of the releases to come that the tests below make up.
const future = 9001

// release is this one's migrations and those of releases to come, numbered from
// future on.
func release(t *testing.T, later ...string) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	for n, sql := range later {
		files[fmt.Sprintf("%d_later.sql", future+n)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + sql)}
	}
	return files
}

func database(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), storetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func needs(version, least int64) string {
	return fmt.Sprintf("insert into schema_need (version, least) values (%d, %d);", version, least)
}

func TestAServerStartsOnANewerSchemaThatAllowsIt(t *testing.T) {
	t.Parallel()
	known, err := store.SchemaVersion()
	if err != nil {
		t.Fatal(err)
	}
	pool := database(t)
	newer := release(t, "alter table issuer add column later text;"+needs(future, known), "create table later (id int);"+needs(future+1, known))
	if err := store.MigrateWith(t.Context(), pool, newer); err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(t.Context(), pool); err != nil {
		t.Fatalf("the older program refuses a schema that allows it: %v", err)
	}
	// Back again: nothing has been taken from the schema meanwhile.
	if err := store.MigrateWith(t.Context(), pool, newer); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `select later from issuer, later`); err != nil {
		t.Errorf("the older program has changed the newer schema: %v", err)
	}
}

func TestAServerRefusesANewerSchemaThatNeedsMore(t *testing.T) {
	t.Parallel()
	known, err := store.SchemaVersion()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		later []string
		needs int64
	}{
		"the newest says so":         {[]string{needs(future, known), needs(future+1, future)}, future},
		"one before the newest does": {[]string{needs(future, future), needs(future+1, known)}, future},
		"the newest says nothing":    {[]string{needs(future, known), "create table later (id int);"}, future + 1},
		"the table is gone":          {[]string{"drop table schema_need;"}, future},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := database(t)
			if err := store.MigrateWith(t.Context(), pool, release(t, c.later...)); err != nil {
				t.Fatal(err)
			}
			err := store.Migrate(t.Context(), pool)
			want := fmt.Sprintf("needs a program that knows version %d; this one knows %d", c.needs, known)
			if certctl.ErrorCode(err) != certctl.Conflict || !strings.Contains(certctl.ErrorMessage(err), want) {
				t.Errorf("%v, want a conflict that says %q", err, want)
			}
		})
	}
}

// A newer schema that lacks what this program relies on is none of its successors'.
func TestANewerSchemaThatLacksAMigrationIsRefused(t *testing.T) {
	t.Parallel()
	known, err := store.SchemaVersion()
	if err != nil {
		t.Fatal(err)
	}
	pool := database(t)
	if err := store.MigrateWith(t.Context(), pool, release(t, needs(future, known))); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `delete from goose_db_version where version_id = $1`, known); err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(t.Context(), pool); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("%v, want a sentence about the missing migration", err)
	}
}

// A server that takes the filter of a single event for a kind of object would lose
// a reader its events.
func TestServersThatCannotReadFiltersOfSingleEventsAreRefused(t *testing.T) {
	t.Parallel()
	var least int64
	if err := database(t).QueryRow(t.Context(), `select max(least) from schema_need`).Scan(&least); err != nil || least < 37 {
		t.Errorf("servers that know version %d may start, %v", least, err)
	}
}

func TestEachMigrationSaysWhatItNeeds(t *testing.T) {
	t.Parallel()
	rows, err := database(t).Query(t.Context(), `select v.version_id from goose_db_version v
		where v.version_id > 35 and not exists (select from schema_need n where n.version = v.version_id)`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var version int64
		if err := rows.Scan(&version); err != nil {
			t.Fatal(err)
		}
		t.Errorf("migration %d does not say in schema_need what servers must know: see the package comment of migrations", version)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// What a server that runs writes while another one migrates is in the copy, too.
func TestTheCopyOfStatesLosesNothingThatIsWrittenMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.submit(request("shop"))
	for _, name := range []string{"0041_references.sql", "0040_certificate_state.sql"} {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		_, down, _ := strings.Cut(string(text), "-- +goose Down")
		if _, err := w.Pool().Exec(w.ctx, down); err != nil {
			t.Fatal(err)
		}
	}
	w.exec(`delete from goose_db_version where version_id >= 40`)
	writer, err := w.Pool().Begin(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Exec(w.ctx, `update certificate set status = 'degraded' where id = $1`, c.ID); err != nil {
		t.Fatal(err)
	}
	migrated := make(chan error, 1)
	go func() { migrated <- store.Migrate(w.ctx, w.Pool()) }()
	// It gives up before it makes others wait for long, and comes again.
	for rises, before := 0, 0; rises < 2; {
		now := w.count(`select count(*) from pg_locks where not granted and relation = 'certificate'::regclass`)
		if now > before {
			rises++
		}
		before = now
		select {
		case err := <-migrated:
			t.Fatalf("it did not wait for a change that is under way: %v", err)
		default:
		}
	}
	if err := writer.Commit(w.ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-migrated; err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from certificate_state where certificate_id = $1 and status = 'degraded'`, c.ID); n != 1 {
		t.Error("the copy has the status of before")
	}
}
