// Package store is what is true: PostgreSQL, and the use cases that change it.
//
// Every exported method is one use case and one transaction (or one read). A
// change, the events that announce it, the due rows that carry it on and the
// answer to its idempotency key commit together or not at all. After the commit
// the announcer given to New learns what to tell the world; losing that costs
// time only, because the same facts stand in the tables due and event_out.
//
// What the package guarantees:
//
//   - the clock is the database's: every stored and compared time is now() of
//     the transaction;
//   - a write is guarded by what it saw (state, revision, attempt, number); when
//     the row has moved on, the result says so and nothing changes;
//   - no transaction is open while a process talks to NATS, a CA or an agent;
//   - errors are certctl.Errors with a code and a message that is safe to show.
//
// It never publishes, signs or decides: decisions are functions of the root
// package, and what must be signed is returned to whoever holds the key.
//
// The row is the queue. Everything unfinished has a row in the table due, set
// by tx.due and cleared by tx.done in the transaction of the change; ClaimDue
// alone walks that table. Rows elsewhere are addressed by their id, with guards
// that imply no partial index (such a guard once made the planner walk the
// index for every id).
package store
