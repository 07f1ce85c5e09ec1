package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/bus/broker"
	"github.com/certctl/certctl/store"
	"github.com/rs/zerolog"
)

// server is one process: what its roles share.
type server struct {
	config  *Config
	log     zerolog.Logger
	worker  string // names this process in attempts and logs
	keys    keyring
	store   *store.Store
	metrics *metrics
	signer  *signer        // with role signer
	broker  *broker.Broker // with role bus
	given   *givenKey      // with --api-key-file

	announcer atomic.Pointer[bus.Announcer] // absent until the bus is there
	observe   atomic.Pointer[func([]certctl.Event)]
	known     atomic.Pointer[string] // the installation's id, once it is
}

// gcPercent halves what collecting garbage costs: a server makes much of it and
// keeps little, some tens of megabytes. GOGC, when set, counts instead.
const gcPercent = 200

// serve runs the roles until ctx ends. Everything that can be wrong with
// settings, keys, schema and addresses is found before anything is served.
func serve(ctx context.Context, c *Config, log zerolog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	s, err := open(ctx, c, log)
	if err != nil {
		return err
	}
	defer s.store.Close()
	if c.has(roleSigner) {
		if s.signer, err = newSigner(ctx, s); err != nil {
			return err
		}
	}
	if c.has(roleBus) {
		release, err := s.startBroker(ctx)
		if err != nil {
			return err
		}
		defer release()
	}
	if s.signer != nil {
		if err := s.signer.publishTrust(ctx); err != nil {
			return err
		}
	}
	return s.run(ctx)
}

// open connects to the database, migrates it, and proves that the keys fit.
func open(ctx context.Context, c *Config, log zerolog.Logger) (*server, error) {
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails
	s := &server{config: c, log: log, worker: hostname() + "-" + hex.EncodeToString(id)}
	var err error
	if s.keys, err = loadKeys(c); err != nil {
		return nil, err
	}
	if s.store, err = store.Open(ctx, c.DatabaseURL, s.announce); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(s.store)
	if err := s.prepare(ctx); err != nil {
		s.store.Close()
		return nil, err
	}
	return s, nil
}

func (s *server) prepare(ctx context.Context) error {
	if err := s.store.CheckRestored(ctx); err != nil {
		return err
	}
	if err := store.Migrate(ctx, s.store.Pool()); err != nil {
		return err
	}
	if err := s.bootstrap(ctx); err != nil {
		return err
	}
	if err := s.store.SetGuard(ctx, s.config.GuardShare, s.config.GuardLeast); err != nil {
		return err
	}
	return checkKeys(ctx, s.store, s.config, s.keys)
}

// bootstrap makes what an empty database lacks. The first admin key is on disk
// before it is valid, so that a crash in between cannot lose it; there is none
// where a key is given.
func (s *server) bootstrap(ctx context.Context) error {
	if s.config.APIKeyFile != "" {
		if _, err := s.store.Bootstrap(ctx, store.BootstrapRequest{PKIURL: s.config.PKIURL}); err != nil {
			return err
		}
		s.given = &givenKey{server: s}
		return s.given.apply(ctx)
	}
	file := newAdminKey(s.config.AdminKeyFile)
	if err := file.stage(); err != nil {
		return err
	}
	first, err := s.store.Bootstrap(ctx, store.BootstrapRequest{
		PKIURL: s.config.PKIURL, AdminKey: file.hash(), AdminPrefix: file.prefix(),
	})
	if err != nil {
		return err
	}
	if first {
		s.log.Info().Str("file", s.config.AdminKeyFile).Msg("first start: the admin key is in this file")
	}
	_, err = s.store.AuthenticateKey(ctx, file.hash())
	return file.settle(err == nil)
}

// announce passes on what has been committed. Before the bus is there, rows in
// the tables due and event_out carry it.
func (s *server) announce(effects certctl.Effects) {
	if announcer := s.announcer.Load(); announcer != nil {
		committed(effects)
		announcer.Announce(effects)
	}
	if observe := s.observe.Load(); observe != nil && len(effects.Events) > 0 {
		(*observe)(effects.Events)
	}
}

// startBroker runs the embedded bus. Two of them on one database would each have
// half of the agents: the second refuses to start.
func (s *server) startBroker(ctx context.Context) (release func(), err error) {
	unlock, ok, err := s.store.TryHoldLock(ctx, "embedded-bus")
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, certctl.Errorf(certctl.Conflict, "another process runs the embedded bus on this database").
			WithRemedy("start this one with --roles api,worker,signer,scheduler and --nats-url, and both on one external NATS")
	}
	operator, err := bus.OperatorJWT(s.signer.platform.Bus)
	if err != nil {
		unlock()
		return nil, err
	}
	documents, err := s.signer.accounts(ctx)
	if err != nil {
		unlock()
		return nil, err
	}
	s.broker, err = broker.Start(ctx, broker.Config{
		Dir: filepath.Join(s.config.DataDir, "nats"), Name: "certctl-" + s.worker, Operator: operator, Accounts: documents,
		Listen: s.config.NATSListen, Certificate: s.signer.broker.Get, Log: s.log.With().Str("part", "broker").Logger(),
	})
	if err != nil {
		unlock()
		return nil, err
	}
	return func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Shutdown)
		defer cancel()
		if err := s.broker.Shutdown(stopping); err != nil {
			s.log.Warn().Err(err).Msg("the bus did not stop cleanly")
		}
		unlock()
	}, nil
}

// busURLs is where agents reach the bus.
func (s *server) busURLs() []string {
	switch {
	case len(s.config.NATSAdvertise) > 0:
		return s.config.NATSAdvertise
	case s.broker != nil:
		return []string{s.broker.URL()}
	}
	return s.config.NATSURL
}

// applyAccounts hands account documents to the bus that this process has.
func (s *server) applyAccounts(ctx context.Context, documents []bus.AccountJWT) ([]string, error) {
	if s.broker != nil {
		return s.broker.UpdateAccounts(documents)
	}
	credentials, err := bus.PusherCredentials(s.signer.platform.Bus, time.Now())
	if err != nil {
		return nil, err
	}
	options, err := s.login([]byte(credentials), "accounts")
	if err != nil {
		return nil, err
	}
	conn, err := bus.Connect(ctx, options)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.Wait(ctx); err != nil {
		return nil, err
	}
	return bus.PushAccounts(ctx, conn, documents)
}

// connect logs in to the bus as a role.
func (s *server) connect(ctx context.Context, r bus.Role) (*bus.Conn, error) {
	credentials, err := s.credentials(r)
	if err != nil {
		return nil, err
	}
	options, err := s.login(credentials, string(r))
	if err != nil {
		return nil, err
	}
	return bus.Connect(ctx, options)
}

// credentials are made by a process that holds the bus identity, and come from a
// file elsewhere.
func (s *server) credentials(r bus.Role) ([]byte, error) {
	if s.signer != nil {
		text, err := bus.PlatformCredentials(s.signer.platform.Bus, r, time.Now())
		return []byte(text), err
	}
	path := s.config.NATSCredentials
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, string(r)+".creds")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the credentials file %s cannot be read", path)
	}
	return text, nil
}

func (s *server) login(credentials []byte, name string) (bus.Options, error) {
	userJWT, seed, err := bus.ParseCredentials(credentials)
	if err != nil {
		return bus.Options{}, err
	}
	options := bus.Options{
		URLs: s.config.NATSURL, Name: "certctl-" + name + "-" + s.worker, Log: s.log.With().Str("part", "bus").Logger(),
		JWT:  func() (string, error) { return userJWT, nil },
		Sign: func(nonce []byte) ([]byte, error) { return bus.SignNonce(seed, nonce) },
	}
	if options.InboxPrefix, err = bus.InboxPrefixOf(userJWT); err != nil {
		return options, err
	}
	if s.broker != nil {
		options.InProcess = s.broker
		return options, nil
	}
	options.TLS, err = s.busTLS()
	return options, err
}

// busTLS trusts the CA file of the settings for an external NATS.
func (s *server) busTLS() (*tls.Config, error) {
	pem, err := os.ReadFile(s.config.NATSCAFile)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the CA file of the bus, %s, cannot be read", s.config.NATSCAFile)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, certctl.Errorf(certctl.Invalid, "%s holds no PEM certificate", s.config.NATSCAFile)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, nil
}

// apiNames are the names that this process's API is reached by.
func (c *Config) apiNames() certctl.Names {
	hosts := []string{"localhost", "127.0.0.1", hostOf(c.Listen)}
	if u, err := url.Parse(c.APIURL); err == nil {
		hosts = append(hosts, u.Hostname())
	}
	return hostNames(hosts)
}

// busNames are the names that the embedded bus is reached by.
func (c *Config) busNames() certctl.Names {
	hosts := []string{"localhost", "127.0.0.1", hostOf(c.NATSListen)}
	for _, text := range c.NATSAdvertise {
		if u, err := url.Parse(text); err == nil {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hostNames(hosts)
}

// hostNames sorts hosts by type; what no certificate can name is left out.
func hostNames(hosts []string) certctl.Names {
	var names certctl.Names
	for _, host := range hosts {
		one := certctl.Names{DNS: []string{host}}
		if addr, err := netip.ParseAddr(host); err == nil {
			one = certctl.Names{IP: []netip.Addr{addr}}
		}
		if clean, err := one.Normalize(); err == nil {
			names.DNS, names.IP = append(names.DNS, clean.DNS...), append(names.IP, clean.IP...)
		}
	}
	names, _ = names.Normalize() // each was normalised
	return names
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}
