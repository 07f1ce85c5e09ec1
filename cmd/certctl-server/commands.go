package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/store"
	"github.com/rs/zerolog"
)

// migrate brings the schema to this release.
func migrate(ctx context.Context, c *Config) error {
	st, err := store.Open(ctx, c.DatabaseURL, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	return store.Migrate(ctx, st.Pool())
}

// check looks for rows that break a promise.
func check(ctx context.Context, c *Config) error {
	st, err := store.Open(ctx, c.DatabaseURL, nil)
	if err != nil {
		return err
	}
	defer st.Close()
	found, err := st.CheckIntegrity(ctx)
	if err != nil {
		return err
	}
	for _, line := range found {
		fmt.Println(line)
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: %d promises are broken", errUnhealthy, len(found))
	}
	fmt.Println("every promise is kept")
	return nil
}

// healthTimeout bounds a health check from its connection to its answer.
const healthTimeout = 5 * time.Second

// health asks a running process with the same settings whether it lives: at
// --listen, or at --debug-listen when it has no API.
func health(ctx context.Context, c *Config) error {
	client, url := http.Client{Timeout: healthTimeout}, "http://"+c.DebugListen+"/health"
	switch {
	case c.has(roleAPI):
		host, port, err := net.SplitHostPort(c.Listen)
		if err != nil {
			return certctl.InvalidField("listen", "%q is not host:port", c.Listen)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		client.Transport = &http.Transport{TLSClientConfig: healthTLS(c.CAFile)}
		url = "https://" + net.JoinHostPort(host, port) + "/health"
	case c.DebugListen == "":
		return certctl.InvalidField("debug_listen", "a process without the role api is asked at its debug listener: set it")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s is no address", url)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnhealthy, err)
	}
	defer response.Body.Close() // nothing is left to be read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: the process answers %s", errUnhealthy, response.Status)
	}
	return nil
}

// healthTLS trusts the CA file when there is one, and otherwise only looks whether
// something speaks TLS: the question carries no secret.
func healthTLS(caFile string) *tls.Config {
	settings := &tls.Config{MinVersion: tls.VersionTLS13}
	if text, err := os.ReadFile(caFile); err == nil {
		settings.RootCAs = x509.NewCertPool()
		settings.RootCAs.AppendCertsFromPEM(text)
	} else {
		settings.InsecureSkipVerify = true //nolint:gosec // nothing secret is sent, and only a status read
	}
	return settings
}

// offline opens what commands need that work beside, or without, a running
// server: database and keys. The role signer is implied.
func offline(ctx context.Context, c *Config, log zerolog.Logger) (*server, error) {
	if !c.has(roleSigner) {
		return nil, certctl.InvalidField("roles", "this command needs the keys of the role signer")
	}
	return open(ctx, c, log)
}
