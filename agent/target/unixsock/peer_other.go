//go:build !linux && !darwin && !freebsd

package unixsock

import (
	"errors"
	"net"
)

const knowsPeers = false

func peerOf(*net.UnixConn) (Peer, error) { return Peer{}, errors.ErrUnsupported }
