package local

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Server is a certctl-server process. Its fields are read by Start; its methods
// belong to one goroutine.
type Server struct {
	// Binary is the path of certctl-server.
	Binary string
	// Dir holds what the process keeps itself: key-encryption keys, the embedded
	// bus, the first admin key, the root certificate.
	Dir string
	// DatabaseURL is a PostgreSQL connection string.
	DatabaseURL string
	// Listen is the address of the API.
	Listen string
	// Debug is the address at which the process says whether it is ready, whatever
	// its roles, and gives its metrics and profiles; empty: none.
	Debug string
	// Env is added to the environment and wins: further CERTCTL_* settings.
	Env []string
	// CAFile and AdminKeyFile are where the server writes its root and the first
	// admin key; empty: ca.crt and admin.key in Dir.
	CAFile, AdminKeyFile string

	process *Process
}

// Start starts the server and returns when it answers that it is ready.
func (s *Server) Start(ctx context.Context) error {
	if err := s.Spawn(); err != nil {
		return err
	}
	return s.process.Ready(ctx, s.ready)
}

// Spawn starts the server and does not wait for it.
func (s *Server) Spawn() error {
	if s.CAFile == "" {
		s.CAFile = filepath.Join(s.Dir, "ca.crt")
	}
	if s.AdminKeyFile == "" {
		s.AdminKeyFile = filepath.Join(s.Dir, "admin.key")
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("make the server's folder: %w", err)
	}
	debug := []string{}
	if s.Debug != "" {
		debug = append(debug, "CERTCTL_DEBUG_LISTEN="+s.Debug)
	}
	process, err := Start(Command{
		Name: "certctl-server", Args: []string{s.Binary, "serve"}, LogFile: filepath.Join(s.Dir, "server.log"),
		Env: append([]string{
			"CERTCTL_DATA_DIR=" + s.Dir, "CERTCTL_LISTEN=" + s.Listen, "CERTCTL_DATABASE_URL=" + s.DatabaseURL,
			"CERTCTL_CREATE_KEKS=true",
		}, append(debug, s.Env...)...),
	})
	if err != nil {
		return err
	}
	s.process = process
	return nil
}

// ready asks /ready, with the root that the server has written unless there is a
// debug listener; before there is one, the server is not ready.
func (s *Server) ready(ctx context.Context) error {
	if s.Debug != "" {
		return Answers(http.DefaultClient, "http://"+s.Debug+"/ready")(ctx)
	}
	client, err := s.Client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return Answers(client, s.URL()+"/ready")(ctx)
}

// URL is the API's.
func (s *Server) URL() string { return "https://" + s.Listen }

// Client returns an HTTP client that trusts the server's root and nothing else.
func (s *Server) Client() (*http.Client, error) { return client(s.CAFile) }

// API returns the API with the first admin key.
func (s *Server) API() (*API, error) {
	http, err := s.Client()
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(s.AdminKeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the admin key: %w", err)
	}
	return &API{URL: s.URL(), Key: string(trimLine(key)), HTTP: http}, nil
}

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.process.Done() }

// Name is the name used in messages.
func (s *Server) Name() string { return "certctl-server" }

// Process is the running child.
func (s *Server) Process() *Process { return s.process }

// Stop asks the server to end and waits for it.
func (s *Server) Stop(ctx context.Context) error { return s.process.Stop(ctx) }

// Kill ends the server with SIGKILL.
func (s *Server) Kill() { s.process.Kill() }

func client(caFile string) (*http.Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the root certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true,
		},
	}, nil
}
