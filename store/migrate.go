package store

import (
	"context"
	"io/fs"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/migrations"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrationLock is the advisory lock under which one process at a time migrates.
const migrationLock = 0x6365727463746c // "certctl"

// Migrate brings the schema to this release's version, under a lock: replicas
// that start together migrate once. It refuses a schema newer than it knows,
// since an older program cannot tell what the newer one relies on.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, 300))
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the migration lock cannot be made")
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS,
		goose.WithSessionLocker(locker), goose.WithAllowOutofOrder(false))
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the migrations cannot be read")
	}
	current, target, err := provider.GetVersions(ctx)
	if err == nil && current > target {
		return certctl.Errorf(certctl.Conflict, "the database's schema is version %d, this program knows %d", current, target).
			WithRemedy("run the newer release, or restore a backup made before the upgrade")
	}
	if _, err := provider.Up(ctx); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the schema could not be migrated")
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
