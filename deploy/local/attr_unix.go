//go:build unix && !linux

package local

import "syscall"

// sysProcAttr puts a child into a group of its own. Only Linux can bind its
// life to its parent's.
func sysProcAttr(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
