// Package backup takes the whole state of an installation out of its database
// into one file, and puts it back.
//
// The file is a tar of two members: manifest.json, which says what this is a
// backup of, and database.dump, which pg_dump has written in its custom format.
// Both are of one snapshot, so that a backup is consistent although the platform
// goes on working while it is taken. Private keys are in it as they are in the
// rows: sealed. The key-encryption keys are not: they lie in files that this
// package never reads.
//
// Restore checks the manifest, the checksum and the key-encryption keys before
// it touches the database, and puts back everything or nothing. A database whose
// restore was interrupted is marked as such, and no server starts on it.
package backup
