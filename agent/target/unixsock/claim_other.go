//go:build !unix

package unixsock

import (
	"context"
	"errors"
	"net"
)

// claim is never had here.
type claim struct{}

func claimPath(context.Context, string) (*claim, error) { return nil, errors.ErrUnsupported }

// Check reports that nobody listens at sockets here.
func Check(context.Context, string) error { return errors.ErrUnsupported }

func (*claim) listen(context.Context, int) (*net.UnixListener, error) {
	return nil, errors.ErrUnsupported
}
func (*claim) intact() bool   { return false }
func (*claim) release() error { return nil }
