package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// restoringSetting is a setting of the database, outside of all tables, that is
// there from before a restore begins until it has ended.
const restoringSetting = "certctl.restoring"

// MarkRestoring notes on a database that a restore has begun, or has ended.
func MarkRestoring(ctx context.Context, conn *pgx.Conn, begun bool) error {
	change := " reset " + restoringSetting
	if begun {
		change = " set " + restoringSetting + " = 'yes'"
	}
	_, err := conn.Exec(ctx, `alter database `+pgx.Identifier{conn.Config().Database}.Sanitize()+change)
	if err != nil {
		return certctl.Wrap(certctl.Conflict, err, "the restore cannot be noted on the database").
			WithRemedy("restore as the user who owns the database")
	}
	return nil
}

// CheckRestored refuses a database whose restore has not ended: what a server
// would do with one half is worse than nothing.
func (s *Store) CheckRestored(ctx context.Context) error {
	var restoring string
	if err := s.pool.QueryRow(ctx, `select coalesce(current_setting($1, true), '')`, restoringSetting).Scan(&restoring); err != nil {
		return failed(err, "the database's settings could not be read")
	}
	if restoring != "" {
		return certctl.Errorf(certctl.Conflict, "a restore of this database was begun and has not ended").
			WithRemedy("repeat certctl-server restore, with --overwrite")
	}
	return nil
}
