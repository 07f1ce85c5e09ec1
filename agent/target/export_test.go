package target

import (
	"errors"
	"net"
	"time"

	"github.com/certctl/certctl/agent/target/unixsock"
)

// StartSocket is what hands out at a listener of kind socket, with other limits.
func StartSocket(l *unixsock.Listener, limit time.Duration) Outlet {
	return startSocket(l, socketLimits{read: limit, write: limit, idle: limit})
}

// AnswersForRoot is what is found out of a socket where the system does not say who
// listens.
func AnswersForRoot(conn net.Conn, socket string) error {
	return answersForRoot(conn, socket, func(*net.UnixConn) (int, error) { return 0, errors.ErrUnsupported })
}
