// Package storetest gives each test a PostgreSQL database of its own, with the
// current schema, on a real server.
//
// A test process starts one private server when the first test asks for a
// database, migrates a template once, and clones it for each test (some 80 ms).
// Tests may run in parallel; nothing is shared between them but the server. A
// database ends with its test, the server with the process.
//
// The server does not survive a crash of the machine (fsync is off), which is
// what makes it fast: tests of durability start their own through
// deploy/local. With CERTCTL_TEST_DATABASE_URL, an existing server is used
// instead; its user must be allowed to create databases.
//
//	func TestMain(m *testing.M) { storetest.Main(m, store.Migrate) }
//
//	func TestSubmit(t *testing.T) {
//		t.Parallel()
//		pool, err := pgxpool.New(t.Context(), storetest.URL(t))
//		…
//		t.Cleanup(pool.Close)
package storetest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// startTimeout bounds the start of the server and the migration.
	startTimeout = 2 * time.Minute

	// cloneTimeout bounds the making and the dropping of one database.
	cloneTimeout = time.Minute
)

// Migrate brings the schema of a database up to date; store.Migrate is one. It
// is a parameter so that this package need not import store.
type Migrate func(ctx context.Context, pool *pgxpool.Pool) error

// process is what all tests of this process share. It is a variable of the
// package because the testing package passes nothing from TestMain to a test.
var process struct {
	migrate Migrate
	once    sync.Once
	server  *server
	err     error
}

// Main runs the tests of a package and ends the process. It is called by
// TestMain; [URL] works only then.
func Main(m *testing.M, migrate Migrate) {
	process.migrate = migrate
	code := m.Run()
	if process.server != nil {
		if err := process.server.close(); err != nil {
			fmt.Fprintln(os.Stderr, "storetest:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// URL makes a database with the current schema and returns its connection URL.
// The database is dropped when the test ends, together with the connections
// that the test has left open.
func URL(t testing.TB) string {
	t.Helper()
	if process.migrate == nil {
		t.Fatal("storetest.Main was not called: add a TestMain that does")
	}
	process.once.Do(startProcess)
	if process.err != nil {
		t.Fatalf("start a database server for the tests: %v", process.err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), cloneTimeout)
	defer cancel()
	name, err := process.server.clone(ctx)
	if err != nil {
		t.Fatalf("clone the template database: %v", err)
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), cloneTimeout)
		defer cancel()
		if err := process.server.drop(ctx, name); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return process.server.url(name)
}

// startProcess starts the server for all tests; it outlives the test that asked
// first, and so does not use that test's context.
func startProcess() {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	process.server, process.err = startServer(ctx, process.migrate)
}
