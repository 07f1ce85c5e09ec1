package store

import (
	"context"
	"errors"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tx is a transaction with its clock, its actor and what it will announce.
// Methods of use cases take it, so that use cases compose without nesting.
//
// Statements that were put wait for the next one that is asked for an answer, or
// for the commit, and travel with it: a round trip costs both sides more than most
// statements do.
type tx struct {
	conn    *pgx.Conn
	waiting *pgx.Batch // statements whose answers nobody needs, in their order

	now     time.Time
	actor   certctl.Actor
	effects certctl.Effects
	pending []certctl.Event

	known *agentCache // of the store; nil where no agents are read
}

// Ways to begin.
var (
	beginWrite = []string{"begin"}
	beginRead  = []string{"begin isolation level repeatable read read only"}
	beginList  = append(beginRead, planEach)
)

// planEach has statements planned for their arguments, in this transaction: a list
// by what is rare and one by what is common want different plans.
const planEach = "set local plan_cache_mode = auto"

// rollbackPatience is how long undoing may take once there is no time left.
const rollbackPatience = 5 * time.Second

// transact runs do in a transaction on a connection of the pool, and commits.
func transact(ctx context.Context, pool *pgxpool.Pool, begin []string, t *tx, do func(*tx) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	t.conn, t.waiting = conn.Conn(), &pgx.Batch{}
	committed := false
	defer func() {
		if !committed {
			t.rollback(ctx)
		}
	}()
	for _, statement := range begin {
		t.waiting.Queue(statement)
	}
	if err := t.QueryRow(ctx, "select now()").Scan(&t.now); err != nil {
		return err
	}
	t.now = t.now.UTC()
	if err := do(t); err != nil {
		return err
	}
	err = t.commit(ctx)
	committed = err == nil
	return err
}

// put sends a statement whose answer does not matter, with the next one whose
// answer does. It fails when that does.
func (t *tx) put(ctx context.Context, sql string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.waiting.Queue(sql, args...)
	return nil
}

// Exec sends a statement, and what waits before it.
func (t *tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if t.waiting.Len() == 0 {
		return t.conn.Exec(ctx, sql, args...)
	}
	t.waiting.Queue(sql, args...)
	results, err := t.send(ctx)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := results.Exec()
	return tag, errors.Join(err, results.Close())
}

// Query sends a query, and what waits before it.
func (t *tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if t.waiting.Len() == 0 {
		return t.conn.Query(ctx, sql, args...)
	}
	t.waiting.Queue(sql, args...)
	results, err := t.send(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		return nil, errors.Join(err, results.Close())
	}
	return &batchRows{Rows: rows, results: results}, nil
}

// QueryRow sends a query of at most one row, and what waits before it.
func (t *tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if t.waiting.Len() == 0 {
		return t.conn.QueryRow(ctx, sql, args...)
	}
	t.waiting.Queue(sql, args...)
	results, err := t.send(ctx)
	return &batchRow{results: results, err: err}
}

// flush sends what waits.
func (t *tx) flush(ctx context.Context) error {
	if t.waiting.Len() == 0 {
		return nil
	}
	results, err := t.send(ctx)
	if err != nil {
		return err
	}
	_, err = results.Exec()
	return errors.Join(err, results.Close())
}

// send sends what waits, and returns where the answer of the last can be read.
func (t *tx) send(ctx context.Context) (pgx.BatchResults, error) {
	batch := t.waiting
	t.waiting = &pgx.Batch{}
	results := t.conn.SendBatch(ctx, batch)
	for range batch.Len() - 1 {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // says the same
			return nil, err
		}
	}
	return results, nil
}

func (t *tx) commit(ctx context.Context) error {
	tag, err := t.Exec(ctx, "commit")
	if err == nil && tag.String() == "ROLLBACK" {
		return pgx.ErrTxCommitRollback
	}
	return err
}

// rollback undoes what has not been committed. A connection that cannot even do
// that is closed: the database then undoes it.
func (t *tx) rollback(ctx context.Context) {
	if t.conn.IsClosed() || t.conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackPatience)
	defer cancel()
	if _, err := t.conn.Exec(ctx, "rollback"); err != nil {
		_ = t.conn.Close(ctx) // it is given up either way
	}
}

// batchRows are rows of a batch's last statement: the batch ends with them.
type batchRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
}

func (r *batchRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *batchRows) Close() {
	r.Rows.Close()
	if err := r.results.Close(); r.err == nil {
		r.err = err
	}
}

func (r *batchRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

// batchRow is the row of a batch's last statement.
type batchRow struct {
	results pgx.BatchResults
	err     error
}

func (r *batchRow) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	err := r.results.QueryRow().Scan(into...)
	if closing := r.results.Close(); err == nil {
		err = closing
	}
	return err
}
