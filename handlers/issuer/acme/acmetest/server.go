package acmetest

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/core"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// Paths of Pebble's resources, for faults and counts.
const (
	NewAccount = "/sign-me-up"
	NewOrder   = "/order-plz"
	Order      = "/my-order/"
	Finalize   = "/finalize-order/"
	Authz      = "/authZ/"
	Challenge  = "/chalZ/"
	Cert       = "/certZ/"
	Revoke     = "/revoke-cert"

	RenewalInfo = "/draft-ietf-acme-ari-03/renewalInfo/"
)

// Options are how hostile the server is. The zero value is friendly.
type Options struct {
	NonceReject int               // percent of good nonces that are refused
	AuthzReuse  int               // percent of authorizations that are still good
	Slow        bool              // validations take up to a second
	EAB         map[string]string // keys of external accounts, base64url, by id; nil: none are asked for
	Blocked     []string          // domains that are never issued for
	Alternates  int               // chains besides the first
	Resolver    string            // a DNS server that it asks in place of its own
	ShortLived  bool              // offers the profile shortlived too; which one an order gets that names none is then chance
}

// Server is a Pebble with its DNS.
type Server struct {
	Directory string
	CABundle  string         // PEM: what its TLS certificate chains to
	Roots     *x509.CertPool // what the certificates that it issues chain to
	DNS       *DNS
	// Challenges is where it looks for proofs over HTTP: whoever tests serves there.
	Challenges net.Listener
	// Handshakes is where it looks for proofs within TLS, likewise.
	Handshakes net.Listener

	mu     sync.Mutex // guards the rest
	faults []*Fault
	counts map[string]int
	// replaced are the predecessors that orders which were taken have named.
	replaced   []string
	accounts   int // that were made
	management http.Handler
	held       int // requests that are kept by faults
	dialled    int // connections

	issuing      *core.Certificate // what it issues with
	certificates *db.MemoryStore   // what it has issued
}

// environment guards Pebble's settings, which are variables of the process.
var environment sync.Mutex

// Start runs a server until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{DNS: startDNS(t), counts: map[string]int{}}
	var err error
	for _, place := range []*net.Listener{&s.Challenges, &s.Handshakes} {
		if *place, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (*place).Close() })
	}
	front := httptest.NewUnstartedServer(s.faulty(s.pebble(t, o)))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.dial()
		}
	}
	front.StartTLS()
	t.Cleanup(front.Close)
	s.Directory = front.URL + wfe.DirectoryPath
	s.CABundle = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}))
	return s
}

// pebble makes the server, whose parts read their settings when they are made.
func (s *Server) pebble(t testing.TB, o Options) http.Handler {
	t.Helper()
	environment.Lock()
	defer environment.Unlock()
	quick := "1"
	if o.Slow {
		quick = "0"
	}
	for name, value := range map[string]string{
		"PEBBLE_WFE_NONCEREJECT": strconv.Itoa(o.NonceReject), "PEBBLE_AUTHZREUSE": strconv.Itoa(o.AuthzReuse),
		"PEBBLE_VA_NOSLEEP": quick, "PEBBLE_VA_SLEEPTIME": "1",
	} {
		if err := os.Setenv(name, value); err != nil { //nolint:usetesting // not for a test that runs in parallel
			t.Fatal(err)
		}
	}
	logger := log.New(io.Discard, "", 0)
	port := func(l net.Listener) int {
		address, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			t.Fatal("not a TCP listener")
		}
		return address.Port
	}
	store := db.NewMemoryStore()
	for id, key := range o.EAB {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			t.Fatal(err)
		}
	}
	for _, domain := range o.Blocked {
		if err := store.AddBlockedDomain(domain); err != nil {
			t.Fatal(err)
		}
	}
	profiles := map[string]ca.Profile{"classic": {Description: "90 days", ValidityPeriod: 90 * 24 * 3600}}
	if o.ShortLived {
		profiles["shortlived"] = ca.Profile{Description: "6 days", ValidityPeriod: 6 * 24 * 3600}
	}
	authority := ca.New(logger, store, "", "ecdsa", o.Alternates, 1, profiles)
	s.Roots = x509.NewCertPool()
	s.Roots.AppendCertsFromPEM(authority.GetRootCert(0).PEM())
	s.issuing, s.certificates = authority.GetIntermediateCert(0), store
	resolver := o.Resolver
	if resolver == "" {
		resolver = s.DNS.Address
	}
	validation := va.New(logger, port(s.Challenges), port(s.Handshakes), false, resolver, store)
	front := wfe.New(logger, store, validation, authority, []string{"pebble.letsencrypt.org"}, false, o.EAB != nil, 0, 0)
	s.management = front.ManagementHandler()
	return front.Handler()
}

// Count is how often a resource was asked for with success.
func (s *Server) Count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[path]
}

// Dialled is how many connections were made to the server.
func (s *Server) Dialled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialled
}

func (s *Server) dial() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialled++
}

// Accounts is how many accounts were made: one that is looked up is none.
func (s *Server) Accounts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accounts
}

// count notes a request that succeeded. The caller holds the lock.
func (s *Server) count(path string, status int) {
	if status >= http.StatusBadRequest {
		return
	}
	if path == NewAccount && status == http.StatusCreated {
		s.accounts++
	}
	for _, known := range []string{NewAccount, NewOrder, Order, Finalize, Authz, Challenge, Cert, Revoke, RenewalInfo} {
		if strings.HasPrefix(path, known) {
			s.counts[known]++
		}
	}
}
