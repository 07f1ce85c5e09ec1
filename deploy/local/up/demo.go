package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// Names of the demo's objects.
const (
	demoName   = "demo.certctl.localhost"
	demoTarget = "demo-nginx"
	demoWait   = 60 * time.Second
)

// demo carries one certificate from a request to a handshake.
type demo struct {
	api   *local.API
	nginx string // address
}

// serve requests the demo certificate, or a new one when there is one, and
// returns how long it took until nginx served it.
func (d demo) serve(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, demoWait)
	defer cancel()
	before, _ := d.served(ctx) // nothing is served before the first certificate
	err := d.api.Call(ctx, http.MethodGet, "/api/v1/certificates/demo", nil, nil)
	started := time.Now()
	switch {
	case local.IsStatus(err, http.StatusNotFound):
		err = d.api.Call(ctx, http.MethodPost, "/api/v1/certificates", map[string]any{
			"name": "demo", "dns_names": []string{demoName}, "issuer": "local", "targets": []string{demoTarget},
		}, nil)
	case err == nil:
		err = d.api.Call(ctx, http.MethodPost, "/api/v1/certificates/demo/renew", map[string]any{}, nil)
	}
	if err != nil {
		return 0, err
	}
	fingerprint, err := d.awaitOther(ctx, before)
	if err != nil {
		return 0, err
	}
	took := time.Since(started)
	return took, d.known(ctx, fingerprint)
}

// awaitOther waits until nginx serves another leaf than before.
func (d demo) awaitOther(ctx context.Context, before string) (string, error) {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for {
		fingerprint, err := d.served(ctx)
		if err == nil && fingerprint != before {
			return fingerprint, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return "", fmt.Errorf("nginx does not serve the new certificate: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// served returns the SHA-256 fingerprint of the leaf that nginx serves.
func (d demo) served(ctx context.Context) (string, error) {
	dialer := tls.Dialer{Config: &tls.Config{
		ServerName:         demoName,
		InsecureSkipVerify: true, //nolint:gosec // the leaf is compared with the API's own record
	}}
	connection, err := dialer.DialContext(ctx, "tcp", d.nginx)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	state := connection.(*tls.Conn).ConnectionState() //nolint:forcetypeassert // a tls.Dialer makes nothing else
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	return hex.EncodeToString(sum[:]), nil
}

// known proves that the API has recorded the leaf that is served.
func (d demo) known(ctx context.Context, fingerprint string) error {
	var versions struct {
		Items []struct {
			Fingerprint string `json:"fingerprint_sha256"`
		} `json:"items"`
	}
	if err := d.api.Call(ctx, http.MethodGet, "/api/v1/certificates/demo/versions", nil, &versions); err != nil {
		return err
	}
	for _, version := range versions.Items {
		if version.Fingerprint == fingerprint {
			return nil
		}
	}
	return fmt.Errorf("nginx serves %s, which the API does not know", fingerprint)
}

func host(address string) string {
	host, _, _ := net.SplitHostPort(address) // we made it
	return host
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
