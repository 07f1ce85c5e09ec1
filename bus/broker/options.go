package broker

import (
	"crypto/tls"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/certctl/certctl"
)

// What embedded and external brokers have in common.
const (
	// maxPayload holds the largest account document. Agents and readers are held
	// to less by their credentials.
	maxPayload = 8 << 20

	// tlsTimeout is generous: when a fleet comes back at once, handshakes wait for
	// CPU, and one that times out costs as much as one that succeeds.
	tlsTimeout = 10 * time.Second

	// handshakeFirst is how long the broker waits for a client's TLS hello before
	// it says its plain INFO. A client that says hello first does so as soon as the
	// connection stands; others, and connections within the process, wait this long
	// once.
	handshakeFirst = 100 * time.Millisecond

	// A connection that is silent for pingInterval × (pingsOut + 1) is dead.
	pingInterval = 10 * time.Second
	pingsOut     = 2

	// maxMemory bounds the streams in memory: hints, which may be lost.
	maxMemory = 256 << 20

	writeDeadline = 10 * time.Second
)

// options turns c into what nats-server understands.
func (c Config) options(operator *jwt.OperatorClaims, resolver server.AccountResolver) (*server.Options, error) {
	if c.Dir == "" || c.Name == "" {
		return nil, certctl.Errorf(certctl.Internal, "a bus needs a folder and a name")
	}
	options := &server.Options{
		ServerName:       c.Name,
		TrustedOperators: []*jwt.OperatorClaims{operator},
		SystemAccount:    operator.SystemAccount,
		AccountResolver:  resolver,

		JetStream:              true,
		StoreDir:               c.Dir,
		SyncAlways:             true, // an acknowledgement means: on the disk
		JetStreamMaxMemory:     maxMemory,
		DisableJetStreamBanner: true,

		DontListen:    true,
		MaxPayload:    maxPayload,
		PingInterval:  pingInterval,
		MaxPingsOut:   pingsOut,
		WriteDeadline: writeDeadline,
		NoSigs:        true, // signals are for the process that embeds us
	}
	if c.StoreKey != "" {
		options.JetStreamKey, options.JetStreamCipher = c.StoreKey, server.AES
	}
	if c.Listen == "" {
		return options, nil
	}
	return options, c.listen(options)
}

// listen adds the network side, which never goes without TLS.
func (c Config) listen(options *server.Options) error {
	host, text, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return certctl.InvalidField("/nats_listen", "%q is not host:port", c.Listen)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return certctl.InvalidField("/nats_listen", "%q is not a port", text)
	}
	if c.Certificate == nil {
		return certctl.Errorf(certctl.Internal, "a bus that listens needs a certificate")
	}
	options.DontListen = false
	options.Host, options.Port = host, int(port)
	if port == 0 {
		options.Port = server.RANDOM_PORT
	}
	options.ClientAdvertise = c.Advertise
	options.TLS = true
	options.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.Certificate}
	options.TLSTimeout = tlsTimeout.Seconds()
	options.TLSHandshakeFirst = true
	options.TLSHandshakeFirstFallback = handshakeFirst
	return nil
}
