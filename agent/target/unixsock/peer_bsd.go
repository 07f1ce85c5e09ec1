//go:build darwin || freebsd

package unixsock

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

const knowsPeers = true

// peerOf reads LOCAL_PEERCRED: who connected, at that moment.
func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var credentials *unix.Xucred
	var credentialsErr error
	err = raw.Control(func(fd uintptr) {
		credentials, credentialsErr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	})
	if err := errors.Join(err, credentialsErr); err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(credentials.Uid)}, nil
}
