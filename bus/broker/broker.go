package broker

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

// Config says how to run the embedded broker.
type Config struct {
	// Dir is where JetStream keeps its files. It is made if missing, readable for
	// this user only.
	Dir string
	// Name is unique among all brokers that know each other.
	Name string
	// Operator is bus.OperatorJWT; Accounts are bus.AccountJWTs.
	Operator string
	Accounts []bus.AccountJWT

	// Listen is host:port; port 0 takes a free one. Empty: this process only.
	Listen string
	// Advertise is host:port that clients are told to use instead, or empty.
	Advertise string
	// Certificate is asked at each handshake, so that a renewed certificate serves
	// the next connection. It is required with Listen.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// StoreKey encrypts the files in Dir, if it is set.
	StoreKey string
	// Log gets the broker's own words. Payloads are never logged.
	Log zerolog.Logger
}

// Broker is a running NATS server. It is safe for concurrent use.
type Broker struct {
	server   *server.Server
	operator *jwt.OperatorClaims
	resolver *server.MemAccResolver

	mu   sync.Mutex                // held while documents are applied, so that none overtakes another
	held map[string]bus.AccountJWT // by account key
}

// Start runs a broker and returns when it takes connections and JetStream is up,
// or when ctx ends. Errors say what of Config cannot be.
func Start(ctx context.Context, c Config) (*Broker, error) {
	operator, err := jwt.DecodeOperatorClaims(c.Operator)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "reading the operator's document of the bus")
	}
	b := &Broker{operator: operator, resolver: &server.MemAccResolver{}, held: make(map[string]bus.AccountJWT, len(c.Accounts))}
	for _, document := range c.Accounts {
		if _, err := b.verify(document); err != nil {
			return nil, err
		}
		if err := b.resolver.Store(document.Key, document.JWT); err != nil {
			return nil, certctl.Wrap(certctl.Internal, err, "keeping the document of the bus account %s", document.Name)
		}
		b.held[document.Key] = document
	}
	options, err := c.options(operator, b.resolver)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "making the folder of the bus")
	}
	if b.server, err = server.NewServer(options); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "configuring the bus")
	}
	log := newLogger(c.Log)
	b.server.SetLoggerV2(log, log.debug(), false, false)
	go b.server.Start()
	if err := b.await(ctx, log); err != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
		return nil, err
	}
	return b, nil
}

// await returns when the broker is ready, or has said why it cannot be.
func (b *Broker) await(ctx context.Context, log *logger) error {
	for !b.server.ReadyForConnections(100 * time.Millisecond) {
		if fatal := log.fatal(); fatal != "" {
			return certctl.Errorf(certctl.Unavailable, "the bus does not start: %s", fatal).
				WithRemedy("see that its address is free and that its folder is on a writable disk with space")
		}
		if err := ctx.Err(); err != nil {
			return certctl.Wrap(certctl.Unavailable, err, "the bus does not become ready")
		}
	}
	if fatal := log.fatal(); fatal != "" || !b.server.JetStreamEnabled() {
		return certctl.Errorf(certctl.Unavailable, "the bus starts without JetStream: %s", fatal).
			WithRemedy("see that the bus's folder is on a writable disk with space and belongs to this installation")
	}
	return nil
}

// URL returns where clients connect over the network, or "" without a listener.
func (b *Broker) URL() string {
	if b.server.Addr() == nil {
		return ""
	}
	return b.server.ClientURL()
}

// InProcessConn returns one end of a connection without network and TLS, for
// nats.InProcessServer. Who connects logs in like everybody else.
func (b *Broker) InProcessConn() (net.Conn, error) { return b.server.InProcessConn() }

// Ready returns nil while the broker takes connections and its streams are
// sound. A stream that could not write to its disk makes the broker not ready.
func (b *Broker) Ready() error {
	if !b.server.Running() {
		return certctl.Errorf(certctl.Unavailable, "the bus is stopped")
	}
	if status := b.server.Healthz(&server.HealthzOptions{}); status.StatusCode >= 300 {
		return certctl.Errorf(certctl.Unavailable, "the bus is not sound: %s", status.Error)
	}
	return nil
}

// UpdateAccounts applies documents that are newer than the held ones, and returns
// the names of the accounts that changed. When it returns, live connections of
// revoked keys have been told to end. It is to the embedded broker what
// bus.PushAccounts is to an external one.
func (b *Broker) UpdateAccounts(documents []bus.AccountJWT) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var changed []string
	for _, document := range documents {
		claims, err := b.verify(document)
		if err != nil {
			return changed, err
		}
		if held, ok := b.held[document.Key]; ok {
			newer, err := document.NewerThan(held)
			if err != nil {
				return changed, err
			}
			if !newer {
				continue
			}
		}
		if err := b.apply(document, claims); err != nil {
			return changed, err
		}
		changed = append(changed, document.Name)
	}
	return changed, nil
}

// Shutdown stops the broker and returns when its files are closed or ctx ends.
// Connections of this process should have been drained before: what they have
// not flushed is lost with them.
func (b *Broker) Shutdown(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return certctl.Wrap(certctl.Unavailable, ctx.Err(), "the bus does not stop in time")
	}
}

// verify returns the claims of a document that our operator signed.
func (b *Broker) verify(document bus.AccountJWT) (*jwt.AccountClaims, error) {
	claims, err := jwt.DecodeAccountClaims(document.JWT)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "reading the document of the bus account %s", document.Name)
	}
	if claims.Subject != document.Key || !b.operator.DidSign(claims) {
		return nil, certctl.Errorf(certctl.Denied, "the document of the bus account %s is not of this bus's operator", document.Name)
	}
	return claims, nil
}

// apply makes a document effective. The caller holds mu.
func (b *Broker) apply(document bus.AccountJWT, claims *jwt.AccountClaims) error {
	if err := b.resolver.Store(document.Key, document.JWT); err != nil {
		return certctl.Wrap(certctl.Internal, err, "keeping the document of the bus account %s", document.Name)
	}
	account, err := b.server.LookupAccount(document.Key)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "looking up the bus account %s", document.Name)
	}
	b.server.UpdateAccountClaims(account, claims)
	b.held[document.Key] = document
	return nil
}
