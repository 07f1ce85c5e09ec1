package target

import (
	"errors"
	"net"
	"syscall"
)

// listenerOf reads SO_PEERCRED: on the side that has connected, who called listen, at
// that moment.
func listenerOf(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *syscall.Ucred
	var credentialsErr error
	err = raw.Control(func(fd uintptr) {
		credentials, credentialsErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, credentialsErr); err != nil {
		return 0, err
	}
	return int(credentials.Uid), nil
}
