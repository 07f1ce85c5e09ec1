package store

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/migrations"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrationLock is the advisory lock under which one process at a time migrates.
const migrationLock = 0x6365727463746c // "certctl"

// Migrate brings the schema to this release's version, under a lock: replicas
// that start together migrate once. A schema that is newer than this program is
// left as it is when its migrations say that programs of this version may work
// on it, and refused otherwise.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	return migrate(ctx, pool, migrations.FS)
}

func migrate(ctx context.Context, pool *pgxpool.Pool, files fs.FS) error {
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, 300))
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the migration lock cannot be made")
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithSessionLocker(locker), goose.WithAllowOutofOrder(false))
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the migrations cannot be read")
	}
	current, known, err := provider.GetVersions(ctx)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the version of the schema could not be read")
	}
	if current > known {
		if err := allowed(ctx, pool, current, known); err != nil {
			return err
		}
	}
	// With a newer schema it has nothing to do, unless one of this program's own
	// migrations is missing there, which it refuses.
	if err := up(ctx, provider); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the schema could not be migrated")
	}
	return nil
}

// How often a migration is tried that gives up rather than make the servers which run
// wait for it.
const (
	migrateTries = 240
	migrateAgain = 500 * time.Millisecond
)

// up applies what is missing. A migration that did not get its locks in time has
// changed nothing.
func up(ctx context.Context, provider *goose.Provider) error {
	again := time.NewTicker(migrateAgain)
	defer again.Stop()
	for n := 1; ; n++ {
		_, err := provider.Up(ctx)
		var refused *pgconn.PgError
		busy := errors.As(err, &refused) && (refused.Code == lockNotAvailable || refused.Code == deadlockDetected)
		if !busy || n == migrateTries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

// Conditions of PostgreSQL (appendix A).
const (
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"
)

// allowed refuses a schema that a program which knows the migrations up to known
// cannot work on. Later ones that say nothing ask for themselves.
func allowed(ctx context.Context, pool *pgxpool.Pool, current, known int64) error {
	least := current
	var says bool
	err := pool.QueryRow(ctx, `select to_regclass('schema_need') is not null`).Scan(&says)
	if err == nil && says {
		err = pool.QueryRow(ctx, `select max(coalesce(n.least, v.version_id)) from goose_db_version v
			left join schema_need n on n.version = v.version_id where v.version_id > $1 and v.is_applied`, known).Scan(&least)
	}
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "what the schema asks of programs could not be read")
	}
	if least > known {
		return certctl.Errorf(certctl.Conflict,
			"the database's schema is version %d and needs a program that knows version %d; this one knows %d", current, least, known).
			WithRemedy("run the newer release, or restore a backup made before the upgrade")
	}
	return nil
}

// SchemaVersion is the version that Migrate brings a schema to: the number of
// the newest migration.
func SchemaVersion() (int64, error) {
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		return 0, certctl.Wrap(certctl.Internal, err, "the migrations cannot be read")
	}
	newest := int64(0)
	for _, file := range files {
		number, err := goose.NumericComponent(file)
		if err != nil {
			return 0, certctl.Wrap(certctl.Internal, err, "the migration %s has no number", file)
		}
		newest = max(newest, number)
	}
	return newest, nil
}
