package store

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Store holds the pool. It is safe for concurrent use.
type Store struct {
	pool     *pgxpool.Pool
	announce certctl.Announcer
	submits  gathering[*submitCall]
	statuses gathering[*statusCall]
	counted  counted
	agents   agentCache
}

// stoppedAfter is how long a transaction may wait for its process. One that was
// stopped, or whose machine has vanished, must not keep its locks from the others:
// the database ends its session, and what it had begun is undone.
const stoppedAfter = 10 * time.Second

// connectionSettings are settings of every connection.
//
// Plans are for tables that grow: one made while a table was nearly empty, and
// kept by a prepared statement, must not read all of it when it is full. Statements
// of a few milliseconds gain nothing from being compiled, which takes longer than
// they do.
var connectionSettings = map[string]string{
	"idle_in_transaction_session_timeout": strconv.Itoa(int(stoppedAfter.Milliseconds())),
	"enable_seqscan":                      "off",
	"jit":                                 "off",
	"plan_cache_mode":                     "force_generic_plan",
}

// Open connects to the database at url (a PostgreSQL connection string) and
// proves that it answers. The schema is not touched; see Migrate.
func Open(ctx context.Context, url string, announce certctl.Announcer) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the database URL cannot be read")
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		for name, value := range connectionSettings {
			if _, err := conn.Exec(ctx, `select set_config($1, $2, false)`, name, value); err != nil {
				return err
			}
		}
		return registerTypes(ctx, conn)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the database cannot be reached")
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, certctl.Wrap(certctl.Unavailable, err, "the database does not answer")
	}
	return New(pool, announce), nil
}

// New returns a store on a pool that Open or a test has configured. A nil
// announcer tells nobody, which is right for a process that exits at once.
func New(pool *pgxpool.Pool, announce certctl.Announcer) *Store {
	if announce == nil {
		announce = func(certctl.Effects) {}
	}
	return &Store{pool: pool, announce: announce}
}

// Pool gives the pool to Migrate and to metrics.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Close ends every connection.
func (s *Store) Close() { s.pool.Close() }

// Ping proves that the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the database does not answer")
	}
	return nil
}

// Now returns the database's clock.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var now time.Time
	if err := s.pool.QueryRow(ctx, "select now()").Scan(&now); err != nil {
		return time.Time{}, failed(err, "the clock cannot be read")
	}
	return now.UTC(), nil
}

// write runs change in a transaction, appends its events, commits, and then
// announces. Nothing is announced when anything fails.
func (s *Store) write(ctx context.Context, actor certctl.Actor, change func(*tx) error) error {
	t := &tx{actor: actor, known: &s.agents}
	err := transact(ctx, s.pool, beginWrite, t, func(t *tx) error {
		if err := change(t); err != nil {
			return err
		}
		return t.appendEvents(ctx)
	})
	if err != nil {
		return failed(err, "the change could not be recorded")
	}
	s.announce(t.effects)
	return nil
}

// read runs query in a read-only transaction with one snapshot.
func (s *Store) read(ctx context.Context, query func(*tx) error) error {
	return failed(transact(ctx, s.pool, beginRead, &tx{known: &s.agents}, query), "the data could not be read")
}

// hint asks the announcer to tell workers to look.
func (t *tx) hint(verb certctl.HintVerb, lane string, ids ...certctl.ID) {
	t.effects.Hints = append(t.effects.Hints, certctl.Hint{Verb: verb, Lane: lane, IDs: ids})
}

// bell asks the announcer to ring agents.
func (t *tx) bell(agents ...certctl.ID) { t.hint(certctl.HintBell, certctl.NoLane, agents...) }

// failed gives every error a code: our own pass, known database errors are
// translated, the rest is Unavailable (connection) or Internal.
func failed(err error, what string) error {
	if err == nil {
		return nil
	}
	var ours *certctl.Error
	if errors.As(err, &ours) {
		return err
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "23505":
			return certctl.Wrap(certctl.Conflict, err, "there is already one like it (%s)", pg.ConstraintName)
		case "40001", "40P01", "55P03", "57014":
			return certctl.Wrap(certctl.Unavailable, err, "%s: busy, try again", what)
		case "57P01", "57P02", "57P03", "53300":
			return certctl.Wrap(certctl.Unavailable, err, "%s: the database is restarting or full", what)
		}
		return certctl.Wrap(certctl.Internal, err, "%s", what)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return certctl.Wrap(certctl.Unavailable, err, "%s: out of time", what)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return certctl.Wrap(certctl.NotFound, err, "no such object")
	}
	return certctl.Wrap(certctl.Unavailable, err, "%s: the database cannot be reached", what)
}

// conflictOn reports whether err is a violation of the named unique constraint.
func conflictOn(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.ConstraintName == constraint
}

// missingTable reports whether a statement failed since its table is not there.
func missingTable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42P01"
}
