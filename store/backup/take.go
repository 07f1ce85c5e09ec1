package backup

import (
	"context"
	"os"
	"path/filepath"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// Options say what is backed up, or restored.
type Options struct {
	URL      string // of the database
	Release  string // of this program
	Programs Programs
}

// Take writes a backup to path; a path that is a folder gets a file whose name
// says of which installation and when. It returns where the backup is.
func Take(ctx context.Context, o Options, path string) (string, Manifest, error) {
	d, err := parse(o.URL)
	if err != nil {
		return "", Manifest{}, err
	}
	conn, err := d.connect(ctx)
	if err != nil {
		return "", Manifest{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// The dump is made of the snapshot that the manifest is read in.
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return "", Manifest{}, certctl.Wrap(certctl.Unavailable, err, "the backup cannot be begun")
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	m, err := describe(ctx, tx, o.Release)
	if err != nil {
		return "", m, err
	}
	program, err := o.Programs.find(ctx, "pg_dump", m.PostgreSQL)
	if err != nil {
		return "", m, err
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, prefixOf(m)+m.TakenAt.Format(stamp)+suffix)
	}
	m, err = dump(ctx, d, tx, m, program, path)
	return path, m, err
}

// describe reads what the manifest says of the database.
func describe(ctx context.Context, tx pgx.Tx, release string) (Manifest, error) {
	m := Manifest{Format: format, Release: release}
	var err error
	if m.PostgreSQL, err = serverVersion(ctx, tx); err == nil {
		var installation, event [16]byte
		err = tx.QueryRow(ctx, `
			select id, (select max(version_id) from goose_db_version where is_applied), now(),
				coalesce((select id from event order by id desc limit 1), '00000000-0000-0000-0000-000000000000') from installation`).
			Scan(&installation, &m.Schema, &m.TakenAt, &event)
		m.Installation, m.LastEvent, m.TakenAt = installation, event, m.TakenAt.UTC()
	}
	if err != nil {
		return m, certctl.Wrap(certctl.Conflict, err, "this database holds no installation of certctl that could be backed up")
	}
	rows, err := tx.Query(ctx, `
		select distinct on (purpose) id, purpose, sealed from platform_key where purpose like $1 || '-%' order by purpose, not_before desc, id desc`,
		certctl.KeyPurposeCheck)
	if err == nil {
		m.KeyChecks, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (k KeyCheck, err error) {
			var id [16]byte
			err = row.Scan(&id, &k.Purpose, &k.Sealed)
			k.ID = id
			return k, err
		})
	}
	if err != nil {
		return m, certctl.Wrap(certctl.Unavailable, err, "the check values of the key-encryption keys cannot be read")
	}
	return m, nil
}

// dump lets pg_dump write beside the backup's place, and packs the backup.
func dump(ctx context.Context, d database, tx pgx.Tx, m Manifest, program, path string) (Manifest, error) {
	var snapshot string
	if err := tx.QueryRow(ctx, `select pg_export_snapshot()`).Scan(&snapshot); err != nil {
		return m, certctl.Wrap(certctl.Unavailable, err, "the snapshot cannot be shared")
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".certctl-backup-")
	if err != nil {
		return m, certctl.Wrap(certctl.Invalid, err, "the backup cannot be written to %s", path)
	}
	defer func() { _ = os.RemoveAll(dir) }() // nothing but the dump, which is packed
	raw := filepath.Join(dir, memberDump)
	if err := d.run(ctx, program, "--format=custom", "--no-owner", "--no-privileges", "--schema=public", "--snapshot="+snapshot, "--file="+raw); err != nil {
		return m, err
	}
	if m.DumpSHA256, m.DumpSize, err = sumOf(raw); err != nil {
		return m, certctl.Wrap(certctl.Unavailable, err, "the dump cannot be read back")
	}
	return m, pack(path, m, raw)
}
