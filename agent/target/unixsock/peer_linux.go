package unixsock

import (
	"errors"
	"net"
	"syscall"
)

const knowsPeers = true

// peerOf reads SO_PEERCRED: who connected, at that moment.
func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var credentials *syscall.Ucred
	var credentialsErr error
	err = raw.Control(func(fd uintptr) {
		credentials, credentialsErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, credentialsErr); err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(credentials.Uid)}, nil
}
