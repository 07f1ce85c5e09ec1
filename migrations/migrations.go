// Package migrations holds the schema as numbered SQL files, applied in order
// by store.Migrate. A migration that is released is never edited: a change is
// another file, in expand/contract steps, so that the previous minor release
// keeps working on the new schema.
//
// Each file from 0036 on says what the oldest server is that works beside it, so
// that one which is started again after a rollback knows whether it may:
//
//	insert into schema_need (version, least) values (36, 35);
//
// An expanding step (a table, a column with a default) repeats the least of the
// file before. A contracting one (what older servers read or write is gone, or
// means something else) names the first file whose servers do without it. The
// least of a minor release is at most the newest file of the one before. Rows of
// a kind that older servers cannot read raise it, too, in a file that holds
// nothing else.
package migrations

import "embed"

// FS holds the files NNNN_name.sql.
//
//go:embed *.sql
var FS embed.FS
