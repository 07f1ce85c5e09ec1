package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
)

// Times of a connection.
const (
	dialTimeout  = 10 * time.Second // the broker's TLS timeout, too
	pingInterval = 20 * time.Second // two unanswered: the connection is dead
	callTimeout  = 5 * time.Second  // a request to JetStream
	flushTimeout = 2 * time.Second  // what is still to be sent when we stop
)

// asyncPending bounds publishes to streams that wait for their acknowledgement.
const asyncPending = 1024

// Options say where the broker is and who logs in.
type Options struct {
	URLs        []string                     // tls://host:port; unused with InProcess
	InProcess   nats.InProcessConnProvider   // an embedded broker
	Name        string                       // shown in the broker's lists
	JWT         func() (string, error)       // read at each log-in; nil: no log-in
	Sign        func([]byte) ([]byte, error) // signs the broker's nonce, with JWT
	TLS         *tls.Config                  // for URLs; the broker must take the TLS hello first
	InboxPrefix string                       // from InboxPrefix; empty: the library's
	Log         zerolog.Logger
}

// Conn is one connection to the broker. It reconnects by itself, for ever, until
// Close. It is safe for concurrent use.
type Conn struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	log zerolog.Logger

	pacer     *pacer
	connected beacon // each time the connection stands
	slow      beacon // messages were dropped, since we were too slow
	missing   beacon // somebody has met a stream or consumer that is not there
	declared  beacon // the supervisor has seen to it that the streams are there
	closed    chan struct{}

	mu          sync.Mutex // guards the rest
	denials     int64
	lastDenial  error
	lastFailure string // of connecting; each is logged once in a row
}

// Connect returns a connection that is being made. It fails only on options that
// cannot be right; Wait tells when the connection stands.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	return connect(ctx, o, pacePlatform, func(*Conn) {})
}

// connect calls prepare before anything is heard of the broker.
func connect(ctx context.Context, o Options, p pace, prepare func(*Conn)) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &Conn{log: o.Log, pacer: &pacer{pace: p}, closed: make(chan struct{})}
	prepare(c)
	opts := nats.GetDefaultOptions()
	opts.Servers = o.URLs
	for _, option := range c.options(o) {
		if err := option(&opts); err != nil {
			return nil, certctl.Wrap(certctl.Invalid, err, "the options of the bus connection %s cannot be right", o.Name)
		}
	}
	nc, err := opts.Connect()
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "connecting to the bus as %s", o.Name).
			WithRemedy("check the addresses and credentials of the bus")
	}
	c.nc = nc
	c.js, err = jetstream.New(nc, jetstream.WithDefaultTimeout(callTimeout),
		jetstream.WithPublishAsyncMaxPending(asyncPending), jetstream.WithPublishAsyncTimeout(callTimeout))
	if err != nil {
		nc.Close()
		return nil, certctl.Wrap(certctl.Internal, err, "preparing the bus connection %s", o.Name)
	}
	return c, nil
}

// options are the same for all: never give up, whatever the broker says of our
// log-in (the next credentials may be better), and buffer nothing while there is
// no connection: what was to be sent is in a database or a journal, and late
// bells and hints are worth nothing.
func (c *Conn) options(o Options) []nats.Option {
	options := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(dialTimeout),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2),
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1), nats.ReconnectToServer(c.pacer.next),
		nats.PermissionErrOnSubscribe(true),
		nats.ConnectHandler(func(*nats.Conn) { c.onConnect("connected to the bus") }),
		nats.ReconnectHandler(func(*nats.Conn) { c.onConnect("connected to the bus again") }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.log.Warn().Err(err).Msg("the bus connection is lost") }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.onFailure(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { c.onError(sub, err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
	}
	if o.InProcess != nil {
		options = append(options, nats.InProcessServer(o.InProcess))
	}
	if o.JWT != nil {
		options = append(options, nats.UserJWT(o.JWT, o.Sign))
	}
	if o.TLS != nil {
		// Our brokers expect the TLS hello first, and so tell nothing in the clear.
		options = append(options, nats.Secure(o.TLS.Clone()), nats.TLSHandshakeFirst())
	}
	if o.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	return options
}

func (c *Conn) onConnect(what string) {
	c.pacer.reset()
	c.mu.Lock()
	c.lastFailure = ""
	c.mu.Unlock()
	c.log.Info().Msg(what)
	c.connected.flash()
}

func (c *Conn) onFailure(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if text := err.Error(); text != c.lastFailure {
		c.lastFailure = text
		c.log.Warn().Err(err).Msg("the bus cannot be reached")
	}
}

func (c *Conn) onError(sub *nats.Subscription, err error) {
	event := c.log.Warn().Err(err)
	if sub != nil {
		event = event.Str("subject", sub.Subject)
	}
	event.Msg("the bus reports an error")
	switch {
	case errors.Is(err, nats.ErrSlowConsumer):
		c.slow.flash()
	case errors.Is(err, nats.ErrPermissionViolation):
		c.mu.Lock()
		defer c.mu.Unlock()
		c.denials, c.lastDenial = c.denials+1, err
	}
}

// Denials returns how often the broker has refused a publish or a subscription,
// and the last refusal. A refused publish is told to nobody else.
func (c *Conn) Denials() (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.denials, c.lastDenial
}

// Connected reports whether the connection stands.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// Wait returns when the connection stands, or with the error of ctx.
func (c *Conn) Wait(ctx context.Context) error {
	connected, stop := c.connected.listen()
	defer stop()
	for !c.Connected() {
		select {
		case <-connected:
		case <-c.closed:
			return errClosed()
		case <-ctx.Done():
			return certctl.Wrap(certctl.Unavailable, context.Cause(ctx), "the bus cannot be reached").
				WithRemedy("check that the broker runs and that its address and certificate are right")
		}
	}
	return nil
}

// Reconnect logs in anew at once, with the newest credentials.
func (c *Conn) Reconnect() error {
	c.pacer.hurry()
	if err := c.nc.ForceReconnect(); err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the bus connection cannot be made anew")
	}
	return nil
}

// Close sends what is still to be sent and ends the connection. Whoever uses it
// must have stopped before.
func (c *Conn) Close() {
	if c.Connected() {
		_ = c.nc.FlushTimeout(flushTimeout) // a broker that hangs gets nothing more
	}
	c.nc.Close()
	<-c.closed
}

func errClosed() error { return certctl.Errorf(certctl.Unavailable, "the bus connection is closed") }

// unreachable turns an error of the library into ours. An error that says that a
// stream or a consumer is missing wakes the supervisor.
func (c *Conn) unreachable(err error, what string) error {
	if isMissing(err) {
		c.missing.flash()
	}
	return certctl.Wrap(certctl.Unavailable, err, "%s", what)
}

// isMissing reports whether err means that a stream or consumer is not there:
// the broker was wiped, or nobody has declared it yet.
func isMissing(err error) bool {
	for _, missing := range []error{
		jetstream.ErrStreamNotFound, jetstream.ErrConsumerNotFound, jetstream.ErrConsumerDeleted, jetstream.ErrNoHeartbeat,
		jetstream.ErrNoStreamResponse, jetstream.ErrConsumerDoesNotExist, nats.ErrNoResponders,
	} {
		if errors.Is(err, missing) {
			return true
		}
	}
	return false
}
