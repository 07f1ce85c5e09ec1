package store

import (
	"context"
	"errors"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// Declared returns the digest of what an object was last declared to be; zero if
// it never was.
func (s *Store) Declared(ctx context.Context, noun, name string) (digest certctl.Digest, err error) {
	err = s.read(ctx, func(t *tx) error {
		err := t.QueryRow(ctx, `select digest from declaration where noun = $1 and name = $2`, noun, name).Scan(&digest)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return digest, err
}

// RecordDeclared notes what an object was declared to be.
func (s *Store) RecordDeclared(ctx context.Context, noun, name string, digest certctl.Digest) error {
	return s.write(ctx, certctl.SystemActor("declaration"), func(t *tx) error {
		return t.put(ctx, `
			insert into declaration (noun, name, digest) values ($1, $2, $3)
			on conflict (noun, name) do update set digest = excluded.digest, declared_at = now()`, noun, name, digest)
	})
}
