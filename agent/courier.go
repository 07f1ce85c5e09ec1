package agent

import (
	"context"
	"crypto/tls"
	"slices"
	"sync"

	"github.com/certctl/certctl"
)

// Courier carries signed statements to the server and its answers back. It is
// believed in nothing.
type Courier interface {
	Mailbox(ctx context.Context, request certctl.Statement) (certctl.Mailbox, error)
	Report(ctx context.Context, report certctl.Statement) (certctl.ReportAnswer, error)
	// Bells gives a value when the mailbox should be asked: a bell rang, or the
	// connection was made anew and one may have been missed.
	Bells() <-chan struct{}
}

// Conn is a connection to the bus that reconnects by itself until Close.
type Conn interface {
	Courier
	// Reconnect logs in anew, with the newest credentials.
	Reconnect() error
	Close()
}

// DialOptions say where the bus is and how to log in.
type DialOptions struct {
	URLs    []string
	Agent   certctl.ID
	UserJWT func() (string, error) // read at each log-in
	BusSeed []byte                 // signs the broker's nonces, and nothing else
	TLS     *tls.Config
}

// Dial connects to the bus. It may return before the connection stands.
type Dial func(ctx context.Context, o DialOptions) (Conn, error)

// link is the present connection, if any. It is safe for concurrent use.
type link struct {
	mu      sync.Mutex
	conn    Conn
	changed chan struct{} // closed and replaced when conn changes
	redial  chan struct{} // capacity 1: addresses or CAs have changed
}

func newLink() *link {
	return &link{changed: make(chan struct{}), redial: make(chan struct{}, 1)}
}

// get returns the connection as soon as there is one, and a channel that is
// closed when it is another one.
func (l *link) get(ctx context.Context) (Conn, <-chan struct{}, error) {
	for {
		l.mu.Lock()
		conn, changed := l.conn, l.changed
		l.mu.Unlock()
		if conn != nil {
			return conn, changed, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-changed:
		}
	}
}

func (l *link) set(conn Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	close(l.changed)
	l.changed = make(chan struct{})
}

// reconnect logs in anew where there is a connection.
func (l *link) reconnect() error {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return nil
	}
	return conn.Reconnect()
}

// keepLink holds a connection to the addresses of the trust document for as
// long as ctx lives, and makes it anew when they change.
func (a *Agent) keepLink(ctx context.Context) error {
	failures := 0
	for {
		if err := a.credentials.Wait(ctx); err != nil {
			return err
		}
		document := a.trust.Document()
		conn, err := a.dial(ctx, DialOptions{
			URLs: document.BusURLs, Agent: a.id.Agent, UserJWT: a.credentials.JWT, BusSeed: a.keys.BusSeed, TLS: a.trust.TLS(),
		})
		if err != nil {
			failures++
			a.problem("bus", err)
			if !sleep(ctx, spread(failures, a.retryUnit)) {
				return ctx.Err()
			}
			continue
		}
		failures = 0
		a.link.set(conn)
		a.awaitRedial(ctx, document)
		a.link.set(nil)
		conn.Close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.log.Info().Int64("trust_version", a.trust.Document().Version).Msg("the bus has other addresses or CAs: connecting anew")
	}
}

// awaitRedial returns when the addresses or CAs are others than in dialled.
func (a *Agent) awaitRedial(ctx context.Context, dialled certctl.TrustDocument) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.link.redial:
		}
		now := a.trust.Document()
		if !slices.Equal(now.BusURLs, dialled.BusURLs) || now.CABundle != dialled.CABundle {
			return
		}
	}
}

// trusted tells the link that a newer trust document has been taken over.
func (a *Agent) trusted() {
	select {
	case a.link.redial <- struct{}{}:
	default:
	}
}
