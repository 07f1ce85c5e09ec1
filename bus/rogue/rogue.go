package rogue

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

// Client is a connection with a role's credentials. Its methods belong to one
// goroutine; the functions that it is given are called from others.
type Client struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// Connect logs in at url, trusting the CA file, with a credentials file.
func Connect(url, caFile, credentialsFile string) (*Client, error) {
	text, err := os.ReadFile(credentialsFile)
	if err != nil {
		return nil, err
	}
	userJWT, seed, err := bus.ParseCredentials(text)
	if err != nil {
		return nil, err
	}
	inbox, err := bus.InboxPrefixOf(userJWT)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	nc, err := nats.Connect(url,
		nats.UserJWT(func() (string, error) { return userJWT, nil }, func(nonce []byte) ([]byte, error) { return bus.SignNonce(seed, nonce) }),
		nats.Secure(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}), nats.TLSHandshakeFirst(),
		nats.CustomInboxPrefix(inbox), nats.MaxReconnects(-1), nats.Name("rogue"))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &Client{nc: nc, js: js}, nil
}

// Close ends the connection, and every subscription with it.
func (c *Client) Close() { c.nc.Close() }

// Intent is a hint as it travelled.
type Intent struct {
	Subject string
	Header  nats.Header
	Data    []byte
}

func intentOf(m jetstream.Msg) Intent {
	return Intent{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()}
}

// Overhear returns up to most hints that are in the stream, through a consumer of
// the client's own, from the oldest on that the consumer has not given yet.
func (c *Client) Overhear(ctx context.Context, consumer string, most int) ([]Intent, error) {
	own, err := c.js.CreateOrUpdateConsumer(ctx, bus.StreamIntent, jetstream.ConsumerConfig{
		Durable: consumer, AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverAllPolicy, MemoryStorage: true,
	})
	if err != nil {
		return nil, err
	}
	batch, err := own.FetchNoWait(most)
	if err != nil {
		return nil, err
	}
	var heard []Intent
	for m := range batch.Messages() {
		heard = append(heard, intentOf(m))
	}
	return heard, batch.Error()
}

// Say publishes a hint as it is.
func (c *Client) Say(i Intent) error {
	return c.nc.PublishMsg(&nats.Msg{Subject: i.Subject, Header: i.Header, Data: i.Data})
}

// Swallow takes up to most hints away from the workers of a verb and lane, and
// returns them. It stands in the queue beside the workers for a while, since they
// leave nothing lying.
func (c *Client) Swallow(ctx context.Context, verb certctl.HintVerb, lane string, most int, wait time.Duration) ([]Intent, error) {
	theirs, err := c.js.Consumer(ctx, bus.StreamIntent, bus.ConsumerName(verb, lane))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	batch, err := theirs.Fetch(most, jetstream.FetchMaxWait(wait))
	if err != nil {
		return nil, err
	}
	var taken []Intent
	for m := range batch.Messages() {
		if err := m.Ack(); err != nil {
			return taken, err
		}
		taken = append(taken, intentOf(m))
	}
	return taken, batch.Error()
}

// Ring rings an agent's bell.
func (c *Client) Ring(agent certctl.ID) error { return c.nc.Publish(bus.SubjectBell(agent), nil) }

// Ask is an agent's request that did not reach those who should answer it.
type Ask struct {
	Subject string
	Data    []byte
}

// TakeReports joins those who answer reports, answers nothing, and gives what it
// was sent to taken. TakeMailboxes does so with mailbox requests.
func (c *Client) TakeReports(taken func(Ask)) (stop func() error, err error) {
	return c.take(bus.SubjectAskReport, taken)
}

// TakeMailboxes is TakeReports for mailbox requests.
func (c *Client) TakeMailboxes(taken func(Ask)) (stop func() error, err error) {
	return c.take(bus.SubjectAskMailbox, taken)
}

func (c *Client) take(subject func(certctl.ID) string, taken func(Ask)) (func() error, error) {
	all := strings.Replace(subject(certctl.NoID), certctl.NoID.String(), "*", 1)
	group := all[strings.LastIndex(all, ".")+1:] // the group bears the word's name
	sub, err := c.nc.QueueSubscribe(all, group, func(m *nats.Msg) { taken(Ask{Subject: m.Subject, Data: m.Data}) })
	if err != nil {
		return nil, err
	}
	return sub.Unsubscribe, c.nc.Flush()
}

// Flush returns when the broker has all that was said.
func (c *Client) Flush() error { return c.nc.Flush() }
