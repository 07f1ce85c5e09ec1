package unixsock

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/certctl/certctl"
)

// Bounds of one socket.
const (
	MaxConns        = 256
	MaxConnsPerUser = 64
	maxRefused      = 32               // that are being told so at a time
	refusalTime     = 10 * time.Second // for that, at most
)

// Config says where to listen, and for whom.
type Config struct {
	Path string
	// Group may connect, too: the socket has the mode 0660. Below 0: it has 0600.
	Group int
	// Allowed reports whether a user may come; root and this process's own always may.
	// It is asked with each connection. nil: nobody else.
	Allowed func(uid int) bool
}

// Peer is who is at the other end of a connection.
type Peer struct{ UID int }

// Listener is a socket. Its connections are of type *Conn.
type Listener struct {
	config Config
	inner  *net.UnixListener
	claim  *claim

	mu      sync.Mutex // guards all below
	open    map[*Conn]struct{}
	users   map[int]int // of those that are not refused
	let     int         // likewise, in all
	refused int
	closed  bool
}

var _ net.Listener = (*Listener)(nil)

// Listen makes the socket. Errors are of this socket alone, and come at once.
func Listen(ctx context.Context, c Config) (*Listener, error) {
	if !knowsPeers {
		return nil, certctl.Errorf(certctl.Unavailable, "this system does not say who is at the other end of a socket: no key is handed out at one")
	}
	claim, err := claimPath(ctx, c.Path)
	if err != nil {
		return nil, err
	}
	inner, err := claim.listen(ctx, c.Group)
	if err != nil {
		return nil, errors.Join(certctl.Wrap(certctl.Unavailable, err, "the socket %s cannot be made", c.Path), claim.release())
	}
	return &Listener{config: c, inner: inner, claim: claim, open: map[*Conn]struct{}{}, users: map[int]int{}}, nil
}

// Accept returns the next connection, also of who is refused; see Conn.Refusal.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.inner.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if c := l.admit(inner); c != nil {
			return c, nil
		}
	}
}

// admit counts a connection; nil: it is closed.
func (l *Listener) admit(inner *net.UnixConn) *Conn {
	c := &Conn{UnixConn: inner, listener: l}
	peer, err := peerOf(inner)
	if err != nil {
		_ = inner.Close() // nobody knows whose it was
		return nil
	}
	c.Peer = peer
	own := peer.UID == 0 || peer.UID == os.Geteuid()
	welcome := own || l.config.Allowed != nil && l.config.Allowed(peer.UID) // which may take a moment
	l.mu.Lock()
	defer l.mu.Unlock()
	c.Refusal = l.refusal(peer, welcome)
	switch {
	case l.closed || c.Refusal != nil && l.refused >= maxRefused:
		_ = inner.Close() // it was not used
		return nil
	case c.Refusal != nil:
		l.refused++
		_ = inner.SetDeadline(time.Now().Add(refusalTime)) // one that cannot be set has ended
	default:
		l.let++
		l.users[peer.UID]++
	}
	l.open[c] = struct{}{}
	return c
}

// refusal says why a user may not come, or not now. The lock is held.
func (l *Listener) refusal(peer Peer, welcome bool) error {
	switch {
	case !welcome:
		return certctl.Errorf(certctl.Denied, "user %d is none of those who may have certificates here", peer.UID).
			WithRemedy("name it under users in the target's settings, and under socket_users in the policy file of this node")
	case l.users[peer.UID] >= MaxConnsPerUser:
		return certctl.Errorf(certctl.RateLimited, "user %d has %d connections to this socket, and may have no more", peer.UID, MaxConnsPerUser).
			WithRemedy("close what is not used, and use one connection for many requests")
	case l.let >= MaxConns:
		return certctl.Errorf(certctl.RateLimited, "this socket has %d connections, and may have no more", MaxConns).
			WithRemedy("come again in a moment")
	}
	return nil
}

// drop is for a connection that has ended.
func (l *Listener) drop(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, counted := l.open[c]; !counted {
		return
	}
	delete(l.open, c)
	if c.Refusal != nil {
		l.refused--
		return
	}
	l.let--
	if l.users[c.Peer.UID]--; l.users[c.Peer.UID] == 0 {
		delete(l.users, c.Peer.UID)
	}
}

// Intact reports whether it listens, and the path still leads to it.
func (l *Listener) Intact() bool {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	return !closed && l.claim.intact()
}

// Close ends all; see the package's comment. A second time it does nothing.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	open := slices.Collect(maps.Keys(l.open))
	l.mu.Unlock()
	err := l.inner.Close()
	for _, c := range open {
		_ = c.Close() // it may have ended by itself
	}
	return errors.Join(err, l.claim.release())
}

// Addr is the socket's.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Conn is a connection of somebody known.
type Conn struct {
	*net.UnixConn
	Peer Peer
	// Refusal is why this one gets nothing but these words; nil: it is welcome.
	Refusal error

	listener *Listener
}

// Close also ends its count.
func (c *Conn) Close() error {
	c.listener.drop(c)
	return c.UnixConn.Close()
}

func (c *Conn) refused() bool { return c.Refusal != nil }

// SetDeadline gives one that is refused no more time than it has.
func (c *Conn) SetDeadline(t time.Time) error {
	if c.refused() {
		return nil
	}
	return c.UnixConn.SetDeadline(t)
}

// SetReadDeadline is SetDeadline for reading.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.refused() {
		return nil
	}
	return c.UnixConn.SetReadDeadline(t)
}

// SetWriteDeadline is SetDeadline for writing.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.refused() {
		return nil
	}
	return c.UnixConn.SetWriteDeadline(t)
}
