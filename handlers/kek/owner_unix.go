//go:build unix

package kek

import (
	"io/fs"
	"os"
	"syscall"
)

// ownedByUs says whether the file is this user's own.
func ownedByUs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return !ok || int(stat.Uid) == os.Geteuid()
}
