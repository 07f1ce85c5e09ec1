package storetest_test

import (
	"context"
	"testing"

	"github.com/certctl/certctl/store/storetest"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

func TestMain(m *testing.M) { storetest.Main(m, migrate) }

func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, "create table fact (n int primary key)")
	return err
}

// Each test has the schema and only its own rows, however many run at once.
func TestDatabasesAreMigratedAndApart(t *testing.T) {
	t.Parallel()
	for range 6 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			conn := connect(t, storetest.URL(t))
			if _, err := conn.Exec(t.Context(), "insert into fact values (1)"); err != nil {
				t.Fatal(err)
			}
			var facts int
			if err := conn.QueryRow(t.Context(), "select count(*) from fact").Scan(&facts); err != nil {
				t.Fatal(err)
			}
			if facts != 1 {
				t.Errorf("%d facts in a database with one", facts)
			}
		})
	}
}

// A connection that a test forgot to close must not keep its database.
//
//nolint:tparallel // the inner test must have ended when the outer one looks
func TestDatabaseEndsWithItsTest(t *testing.T) {
	t.Parallel()
	outer := connect(t, storetest.URL(t))
	var name string
	t.Run("inner", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), storetest.URL(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), "select current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
	})
	var databases int
	err := outer.QueryRow(t.Context(), "select count(*) from pg_database where datname = $1", name).Scan(&databases)
	if err != nil {
		t.Fatal(err)
	}
	if databases != 0 {
		t.Errorf("%s outlived its test", name)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return conn
}
