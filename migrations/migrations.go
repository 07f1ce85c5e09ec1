// Package migrations holds the schema as numbered SQL files, applied in order
// by store.Migrate. A migration that is released is never edited: a change is
// another file, in expand/contract steps, so that the previous minor release
// keeps working on the new schema.
package migrations

import "embed"

// FS holds the files NNNN_name.sql.
//
//go:embed *.sql
var FS embed.FS
