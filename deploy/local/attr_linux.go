package local

import "syscall"

// sysProcAttr puts a child into a group of its own and has the kernel stop it
// with the given signal when its parent ends without stopping it.
func sysProcAttr(stop syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: stop, Setpgid: true}
}
