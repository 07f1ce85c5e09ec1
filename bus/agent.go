package bus

import (
	"context"
	"crypto/tls"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
)

// AgentOptions say where the bus is and who logs in.
type AgentOptions struct {
	URLs    []string                           // tls://host:port
	Agent   certctl.ID                         // also the user's name
	UserJWT func() (string, error)             // read at each log-in; nil: no log-in
	Sign    func(nonce []byte) ([]byte, error) // signs the broker's nonce with the bus key
	TLS     *tls.Config
	Log     zerolog.Logger
}

// AgentConn is an agent's connection: two requests and one bell. It reconnects by
// itself, paced, until Close.
type AgentConn struct {
	conn  *Conn
	agent certctl.ID

	mu     sync.Mutex // guards closing bells
	closed bool
	bells  chan struct{}
	done   chan struct{}
	wg     sync.WaitGroup
}

// DialAgent returns a connection that is being made; it may stand later, or never
// as long as the broker refuses the credentials.
func DialAgent(ctx context.Context, o AgentOptions) (*AgentConn, error) {
	if o.Agent.IsZero() || len(o.URLs) == 0 {
		return nil, certctl.Errorf(certctl.Invalid, "an agent needs its id and an address of the bus")
	}
	name := o.Agent.String()
	a := &AgentConn{agent: o.Agent, bells: make(chan struct{}, 1), done: make(chan struct{})}
	var connected, slow <-chan struct{}
	conn, err := connect(ctx, Options{
		URLs: o.URLs, Name: name, JWT: o.UserJWT, Sign: o.Sign, TLS: o.TLS, InboxPrefix: InboxPrefix(name), Log: o.Log,
	}, paceAgent, func(c *Conn) {
		connected, _ = c.connected.listen()
		slow, _ = c.slow.listen()
	})
	if err != nil {
		return nil, err
	}
	a.conn = conn
	if _, err := conn.nc.Subscribe(SubjectCommands(o.Agent), func(*nats.Msg) { a.ring() }); err != nil {
		conn.Close()
		return nil, certctl.Wrap(certctl.Internal, err, "listening to the bell")
	}
	a.wg.Go(func() { a.follow(connected, slow) })
	return a, nil
}

// follow rings when bells may have been missed. On a new connection it does so
// after the broker has our subscription, so that none is missed from then on.
func (a *AgentConn) follow(connected, slow <-chan struct{}) {
	for {
		select {
		case <-a.done:
			return
		case <-slow:
			a.ring()
		case <-connected:
			if a.conn.nc.FlushTimeout(callTimeout) == nil {
				a.ring() // else the connection was lost again, and another follows
			}
		}
	}
}

func (a *AgentConn) ring() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		wake(a.bells)
	}
}

// Bells gives a value when the mailbox should be asked: a bell rang, or one may
// have been missed, since the connection was made or messages were dropped. It is
// closed by Close.
func (a *AgentConn) Bells() <-chan struct{} { return a.bells }

// Mailbox asks for work. An error's RetryAfter says how long the server wants to
// be left alone.
func (a *AgentConn) Mailbox(ctx context.Context, request certctl.Statement) (certctl.Mailbox, error) {
	var box certctl.Mailbox
	err := a.conn.ask(ctx, SubjectAskMailbox(a.agent), kindMailbox, request, &box)
	return box, err
}

// Report says something that the server is to record, and returns after it has,
// or with an answer that says why not.
func (a *AgentConn) Report(ctx context.Context, report certctl.Statement) (certctl.ReportAnswer, error) {
	var answer certctl.ReportAnswer
	err := a.conn.ask(ctx, SubjectAskReport(a.agent), kindReport, report, &answer)
	return answer, err
}

// Reconnect logs in anew at once, with the newest credentials.
func (a *AgentConn) Reconnect() error { return a.conn.Reconnect() }

// Connected reports whether the connection stands.
func (a *AgentConn) Connected() bool { return a.conn.Connected() }

// Close ends the connection and closes Bells. Further calls do nothing.
func (a *AgentConn) Close() {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.closed = true
	close(a.bells)
	a.mu.Unlock()
	close(a.done)
	a.conn.Close()
	a.wg.Wait()
}
