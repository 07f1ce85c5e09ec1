package local_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/deploy/local"
)

// startPostgres starts a cluster that ends with the test.
func startPostgres(ctx context.Context, t *testing.T, postgres *local.Postgres) {
	t.Helper()
	// The start may have moved the cluster to a folder that only Remove knows.
	t.Cleanup(func() {
		if err := postgres.Remove(); err != nil {
			t.Error(err)
		}
	})
	if err := postgres.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { postgres.Kill() })
}

// query runs SQL through psql, as another program would.
func query(ctx context.Context, t *testing.T, dsn, sql string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "psql", "--no-psqlrc", "-AtX", "-v", "ON_ERROR_STOP=1", dsn, "-c", sql)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", sql, err, complaint.String())
	}
	return strings.TrimSpace(string(output))
}

func TestPostgresKeepsItsDataThroughEveryEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	postgres := &local.Postgres{
		Databases: []string{"certctl", `odd "name`},
		Dir:       filepath.Join(scratch(t), "postgres"),
		Durable:   true,
		Settings:  map[string]string{"max_connections": "42"},
	}
	startPostgres(ctx, t, postgres)
	dsn := postgres.DSN("certctl")
	query(ctx, t, dsn, "create table fact (n int)")
	query(ctx, t, postgres.DSN(`odd "name`), "select 1")
	if got := query(ctx, t, dsn, "select current_setting('max_connections') || current_setting('fsync')"); got != "42on" {
		t.Errorf("the settings are %s", got)
	}

	for _, end := range []func() error{
		func() error { return postgres.Stop(ctx) },
		func() error { return postgres.StopImmediate(ctx) },
		func() error { postgres.Kill(); return nil },
	} {
		query(ctx, t, dsn, "insert into fact values (1)")
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := postgres.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got := query(ctx, t, postgres.DSN("certctl"), "select count(*) from fact"); got != "3" {
		t.Errorf("%s of 3 facts are left", got)
	}
}

func TestPostgresListensOnNothingButItsPrivateSocket(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	postgres := &local.Postgres{Dir: filepath.Join(scratch(t), "postgres")}
	startPostgres(ctx, t, postgres)

	addresses := query(ctx, t, postgres.DSN("postgres"), "select current_setting('listen_addresses')")
	if addresses != "" {
		t.Errorf("it listens on %q", addresses)
	}
	info, err := os.Stat(postgres.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("others can reach the socket: %v", info.Mode())
	}
}

// A long path and, for root, one that the database's user cannot reach: the
// first needs another folder for the socket, the second for everything.
func TestPostgresFindsAPlace(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{
		"a path longer than a socket's": filepath.Join(scratch(t), strings.Repeat("long", 30), "postgres"),
		"a folder nobody else may pass": filepath.Join(t.TempDir(), "postgres"),
		"a comma":                       filepath.Join(scratch(t), "a,b", "postgres"),
		"a space and a quote":           filepath.Join(scratch(t), `a "b"`, "postgres"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			postgres := &local.Postgres{Dir: dir}
			startPostgres(ctx, t, postgres)
			query(ctx, t, postgres.DSN("postgres"), "create table fact (n int)")
			if err := postgres.Stop(ctx); err != nil {
				t.Fatal(err)
			}
			again := &local.Postgres{Dir: dir}
			startPostgres(ctx, t, again)
			query(ctx, t, again.DSN("postgres"), "select * from fact")
		})
	}
}

func TestPostgresIsMadeAgainAfterAnInterruptedMaking(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	dir := filepath.Join(scratch(t), "postgres")
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	postgres := &local.Postgres{Dir: dir}
	startPostgres(ctx, t, postgres)
	query(ctx, t, postgres.DSN("postgres"), "select 1")
}
