package store

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// LockedOnce runs fn while no other process runs one of the same name, waiting
// for its turn. It is for what must be made once: fn looks whether it is there
// and makes it if not. The lock is held by a connection of its own, outside the
// pool that fn uses, and ends with that connection whatever happens.
func (s *Store) LockedOnce(ctx context.Context, name string, fn func(ctx context.Context) error) error {
	conn, err := s.lockConn(ctx)
	if err != nil {
		return err
	}
	defer closeLock(conn)
	if _, err := conn.Exec(ctx, `select pg_advisory_lock($1)`, lockKey(name)); err != nil {
		return failed(err, "the lock "+name+" cannot be taken")
	}
	return fn(ctx)
}

// TryHoldLock takes the lock of a name if nobody has it. The lock is held until
// release is called, this process ends, or its connection to the database does.
func (s *Store) TryHoldLock(ctx context.Context, name string) (release func(), ok bool, err error) {
	conn, err := s.lockConn(ctx)
	if err != nil {
		return nil, false, err
	}
	if err := conn.QueryRow(ctx, `select pg_try_advisory_lock($1)`, lockKey(name)).Scan(&ok); err != nil || !ok {
		closeLock(conn)
		return nil, false, failed(err, "the lock "+name+" cannot be taken")
	}
	return func() { closeLock(conn) }, true, nil
}

// lockConn opens a connection outside the pool: holders of locks must not use up
// the connections that they need to get done.
func (s *Store) lockConn(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	return conn, failed(err, "the database cannot be reached")
}

func closeLock(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the lock ends with the connection, however that ends
}

// lockKey is the advisory lock of a name: 64 bits of its digest.
func lockKey(name string) int64 {
	digest := certctl.DigestOf([]byte("certctl/lock/" + name))
	return int64(binary.BigEndian.Uint64(digest[:8]))
}
