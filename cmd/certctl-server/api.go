package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target/remote"
	"github.com/certctl/certctl/api/pki"
	"github.com/certctl/certctl/api/rest"
	"github.com/certctl/certctl/bus"
	"github.com/certctl/certctl/cmd/internal/edition"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/issuer"
	"github.com/certctl/certctl/handlers/notifier"
)

// remoteSigner asks the signer role, across the bus.
type remoteSigner struct{ conn *bus.Conn }

func (r remoteSigner) Enroll(ctx context.Context, request rest.EnrollRequest) (certctl.Enrolled, error) {
	var answer certctl.Enrolled
	err := bus.AskSigner(ctx, r.conn, verbEnroll, handlers.EnrollRequest{Enrolment: request.Enrolment, Remote: request.Remote}, &answer)
	return answer, err
}

func (r remoteSigner) Credentials(ctx context.Context, statement certctl.Statement) (certctl.Credentials, error) {
	var answer certctl.Credentials
	err := bus.AskSigner(ctx, r.conn, verbCredentials, handlers.CredentialsRequest{Statement: statement}, &answer)
	return answer, err
}

func (r remoteSigner) Reader(ctx context.Context, reader certctl.Reader) (string, error) {
	var answer string
	err := bus.AskSigner(ctx, r.conn, verbReader, reader, &answer)
	return answer, err
}

// targetKinds is the largest table of targets, a proxy's, as the API validates
// with it. What each node of them serves it says itself.
type targetKinds struct{}

func (targetKinds) Validate(kind string, settings json.RawMessage) error {
	return remote.Kinds().Validate(kind, settings)
}

func (targetKinds) Experimental(kind string) bool { return remote.Kinds().Experimental(kind) }

// startAPI serves REST over HTTPS, and over HTTP what relying parties ask.
func (s *server) startAPI(t *tasks, conn *bus.Conn) error {
	feed := rest.NewFeed()
	observe := func(events []certctl.Event) { feed.Publish(events) }
	s.observe.Store(&observe)
	config := rest.Config{
		Store: s.store, Signer: remoteSigner{conn}, Seal: s.sealSecret, Feed: feed, Metrics: s.metrics.handler(), Answered: s.metrics.answered,
		Ready: s.ready(conn), Issuers: issuer.Kinds{Installation: s.installation}, Targets: targetKinds{}, Channels: notifier.Kinds{}, CAFingerprint: s.caFingerprint(),
		BusURLs: s.busURLs(), Version: edition.Version(), Log: s.log.With().Str("part", "api").Logger(), Now: time.Now,
	}
	if err := s.startDeclarations(t, config); err != nil {
		return err
	}
	router, err := rest.New(config)
	if err != nil {
		return err
	}
	published := pki.Config{
		Store: s.store, OCSP: handlers.NewOCSP(s.store, s.keys.pki), Log: s.log.With().Str("part", "pki").Logger(),
	}
	certificate, err := s.apiCertificate()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.config.Listen)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the API cannot listen on %s", s.config.Listen)
	}
	secure := tls.NewListener(listener, &tls.Config{
		GetCertificate: certificate, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
	})
	t.run("api", s.serveHTTP(secure, pki.Beside(router, published)))
	t.run("event feed", func(ctx context.Context) error {
		return feed.Run(ctx, func(ctx context.Context) error {
			return bus.Follow(ctx, conn, func(e certctl.Event) { feed.Publish([]certctl.Event{e}) })
		})
	})
	if err := s.startChallenges(t); err != nil || s.config.PKIListen == "" {
		return err
	}
	plain, err := net.Listen("tcp", s.config.PKIListen)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "revocation lists cannot be served on %s", s.config.PKIListen)
	}
	t.run("revocation lists", s.serveHTTP(plain, pki.Handler(published)))
	return nil
}

// installation returns the installation's id, "" before another role has set the
// database up.
func (s *server) installation(ctx context.Context) string {
	if known := s.known.Load(); known != nil {
		return *known
	}
	id, _, err := s.store.Installation(ctx)
	if err != nil {
		return ""
	}
	text := id.String()
	s.known.Store(&text)
	return text
}

// serveHTTP serves until the context ends, and lets what is under way finish.
func (s *server) serveHTTP(listener net.Listener, handler http.Handler) func(context.Context) error {
	return func(ctx context.Context) error {
		server := &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
			MaxHeaderBytes: 32 << 10,
			BaseContext:    func(net.Listener) context.Context { return ctx },
		}
		stopped := make(chan error, 1)
		go func() {
			<-ctx.Done()
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Shutdown)
			defer cancel()
			stopped <- server.Shutdown(stopping)
		}()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return <-stopped
	}
}

// apiCertificate is the platform's own, or with separate roles one from files.
func (s *server) apiCertificate() (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	if s.signer != nil {
		return s.signer.api.Get, nil
	}
	files := &fileCertificate{cert: s.config.TLSCert, key: s.config.TLSKey, ca: s.config.TLSCA, log: s.log, now: time.Now}
	_, err := files.get(nil)
	return files.get, err
}

// ready says whether this process can serve: the database decides; a bus that
// is away makes it slower, not unable.
func (s *server) ready(conn *bus.Conn) func(context.Context) (bool, map[string]string) {
	return func(ctx context.Context) (bool, map[string]string) {
		checks := map[string]string{"database": "ok", "bus": "ok"}
		if !conn.Connected() {
			checks["bus"] = "degraded"
		}
		if err := s.store.Ping(ctx); err != nil {
			checks["database"] = "unreachable"
			return false, checks
		}
		if recovering, err := s.store.Recovering(ctx); err == nil && recovering {
			checks["recovery"] = "degraded"
		}
		return true, checks
	}
}

func (s *server) sealSecret(table string, row certctl.ID, column string, plaintext []byte) ([]byte, error) {
	return s.keys.secrets.Seal(table, row, column, plaintext)
}

// openImported opens a key that came with an import.
func (s *server) openImported(work certctl.InstallWork) ([]byte, error) {
	return s.keys.secrets.Open("holder", work.Version.Holder, "sealed_key", work.SealedKey)
}

func (s *server) caFingerprint() string {
	if s.signer != nil {
		return certctl.DigestOf(s.signer.root).String()
	}
	if s.config.CAFingerprint == "" {
		return rootFingerprint(cmp.Or(s.config.TLSCA, s.config.TLSCert))
	}
	return s.config.CAFingerprint
}

// rootFingerprint is that of the root which a PEM chain ends with; "" when it ends
// with none.
func rootFingerprint(path string) string {
	rest, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	var last []byte
	for block, more := pem.Decode(rest); block != nil; block, more = pem.Decode(more) {
		last = block.Bytes
	}
	if root, err := x509.ParseCertificate(last); err != nil || root.CheckSignatureFrom(root) != nil {
		return ""
	}
	return certctl.DigestOf(last).String()
}
