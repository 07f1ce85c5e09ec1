package backup

import (
	"context"
	"os"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/store"
	"github.com/jackc/pgx/v5"
)

// RestoreOptions say how a backup is restored.
type RestoreOptions struct {
	Options
	Path string
	// Overwrite allows a database that is not empty: what is in it is lost.
	Overwrite bool
	// CheckKeys refuses a backup that the key-encryption keys at hand do not open.
	CheckKeys func([]KeyCheck) error
	// Finish is called with the restored database, whose schema is this release's,
	// before servers may start on it.
	Finish func(ctx context.Context, s *store.Store, m Manifest) error
}

// Restore puts a backup into a database: checked before, and all of it or
// nothing. The schema is migrated to this release's.
func Restore(ctx context.Context, o RestoreOptions) (Manifest, error) {
	d, err := parse(o.URL)
	if err != nil {
		return Manifest{}, err
	}
	dir, err := os.MkdirTemp("", "certctl-restore-")
	if err != nil {
		return Manifest{}, certctl.Wrap(certctl.Unavailable, err, "there is no folder to unpack in")
	}
	defer func() { _ = os.RemoveAll(dir) }() // a copy of what is in the backup
	m, dump, err := unpack(o.Path, dir)
	if err != nil {
		return m, err
	}
	known, err := store.SchemaVersion()
	switch {
	case err != nil:
		return m, err
	case m.Schema > known:
		return m, certctl.Errorf(certctl.Conflict, "the backup's schema is version %d, this program knows %d", m.Schema, known).
			WithRemedy("restore it with certctl-server %s or newer", m.Release)
	}
	if err := o.CheckKeys(m.KeyChecks); err != nil {
		return m, err
	}
	if err := o.load(ctx, d, m, dump); err != nil {
		return m, err
	}
	return m, o.finish(ctx, m)
}

// load empties the database, if it may, and lets pg_restore fill it.
func (o RestoreOptions) load(ctx context.Context, d database, m Manifest, dump string) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	version, err := serverVersion(ctx, conn)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the database does not say which version it is")
	}
	program, err := o.Programs.find(ctx, "pg_restore", max(version, m.PostgreSQL))
	if err != nil {
		return err
	}
	if err := o.mayFill(ctx, conn); err != nil {
		return err
	}
	if err := store.MarkRestoring(ctx, conn, true); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `drop schema if exists public cascade; create schema public`); err != nil {
		return certctl.Wrap(certctl.Conflict, err, "the database cannot be emptied").
			WithRemedy("restore as the user who owns the database")
	}
	return d.run(ctx, program, "--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", "--schema=public", dump)
}

// mayFill refuses a database that somebody uses, or that holds something.
func (o RestoreOptions) mayFill(ctx context.Context, conn *pgx.Conn) error {
	var others, relations int
	err := conn.QueryRow(ctx, `
		select (select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'),
			(select count(*) from pg_class where relnamespace = 'public'::regnamespace)`).Scan(&others, &relations)
	switch {
	case err != nil:
		return certctl.Wrap(certctl.Unavailable, err, "the database cannot be looked at")
	case others > 0:
		return certctl.Errorf(certctl.Conflict, "%d others are connected to this database", others).
			WithRemedy("stop every certctl-server, and whatever else uses it, before a restore")
	case relations > 0 && !o.Overwrite:
		return certctl.Errorf(certctl.Conflict, "this database is not empty").
			WithRemedy("restore into an empty one, or give up what is in this one with --overwrite")
	}
	return nil
}

// finish brings the schema to this release's and lets servers start.
func (o RestoreOptions) finish(ctx context.Context, m Manifest) error {
	s, err := store.Open(ctx, o.URL, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := store.Migrate(ctx, s.Pool()); err != nil {
		return err
	}
	if o.Finish != nil {
		if err := o.Finish(ctx, s, m); err != nil {
			return err
		}
	}
	conn, err := s.Pool().Acquire(ctx)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the database cannot be reached")
	}
	defer conn.Release()
	return store.MarkRestoring(ctx, conn.Conn(), false)
}
