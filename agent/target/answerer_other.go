//go:build !linux

package target

import (
	"errors"
	"net"
)

func listenerOf(*net.UnixConn) (uid int, err error) { return 0, errors.ErrUnsupported }
