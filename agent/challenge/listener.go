package challenge

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/certctl/certctl"
)

const (
	// maxConnections is how many connections a listener serves at once: CAs look
	// from a handful of places. Others wait in the kernel.
	maxConnections = 64

	// connectionTime is how long a connection may take, whatever it does.
	connectionTime = 10 * time.Second
)

// listener listens while it is wanted. Its methods are called one at a time.
type listener struct {
	address string
	serve   func(net.Listener)

	open net.Listener // nil while nothing listens
}

func newListener(address string, serve func(net.Listener)) *listener {
	return &listener{address: address, serve: serve}
}

// want opens or closes it.
func (l *listener) want(wanted bool) error {
	switch {
	case !wanted:
		l.stop()
		return nil
	case l.open != nil:
		return nil
	}
	open, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", l.address)
	if err != nil {
		e := certctl.Wrap(certctl.Unavailable, err, "the agent cannot listen on %s: %s", l.address, reason(err))
		return e.WithRemedy("where a web server has the address, name its folder under challenge_webroots of the node's policy, or have it pass the CA's requests on to another address of the agent's")
	}
	l.open = open
	go l.serve(&bounded{Listener: open, room: make(chan struct{}, maxConnections)})
	return nil
}

// stop closes it. What it is serving ends by itself, soon.
func (l *listener) stop() {
	if l.open == nil {
		return
	}
	_ = l.open.Close() // fails only when it is closed
	l.open = nil
}

// reason is why an address cannot be had, without what the message says already.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return "it is no address of this node"
}

// bounded accepts so many connections at once, and gives each its time.
type bounded struct {
	net.Listener
	room chan struct{}
}

// Accept implements net.Listener.
func (b *bounded) Accept() (net.Conn, error) {
	b.room <- struct{}{}
	conn, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(connectionTime)) // fails only on a closed connection
	return &bounding{Conn: conn, free: sync.OnceFunc(func() { <-b.room })}, nil
}

// bounding gives its room back when it is closed.
type bounding struct {
	net.Conn
	free func()
}

// Close implements net.Conn.
func (c *bounding) Close() error {
	defer c.free()
	return c.Conn.Close()
}
