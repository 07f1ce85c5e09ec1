package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// bulk is how many certificates one request submits.
const bulk = 500

// throughput submits certificates with requests of their own, as fast as the API
// takes them, and measures until the last one is issued.
func throughput(ctx context.Context, i *local.Installation, total int) error {
	requests, err := makeRequests(total)
	if err != nil {
		return err
	}
	started := time.Now()
	for at := 0; at < total; at += bulk {
		items := make([]map[string]any, 0, bulk)
		for n := at; n < min(at+bulk, total); n++ {
			items = append(items, map[string]any{"name": fmt.Sprintf("run-%d", n), "issuer": "local", "csr": requests[n]})
		}
		if err := i.API.Call(ctx, http.MethodPost, "/api/v1/bulk/certificates", map[string]any{"items": items}, nil); err != nil {
			return err
		}
	}
	submitted := time.Since(started)
	if err := awaitIssued(ctx, i); err != nil {
		return err
	}
	issued := time.Since(started)
	fmt.Printf("%d certificates in requests of %d, fsync on, TLS everywhere\n\n", total, bulk)
	printRate("submitted", total, submitted)
	printRate("issued", total, issued)
	return nil
}

func printRate(name string, total int, took time.Duration) {
	fmt.Printf("%-12s in %6.2f s  %7.0f a second\n", name, took.Seconds(), float64(total)/took.Seconds())
}

// makeRequests makes CSRs, each with a key of its own.
func makeRequests(total int) ([]string, error) {
	requests := make([]string, total)
	for n := range requests {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		names := []string{fmt.Sprintf("run-%d.bench.localhost", n)}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
		if err != nil {
			return nil, err
		}
		requests[n] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	}
	return requests, nil
}

// awaitIssued waits until no certificate is pending.
func awaitIssued(ctx context.Context, i *local.Installation) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		var pending struct {
			Items []struct{} `json:"items"`
		}
		if err := i.API.Call(ctx, http.MethodGet, "/api/v1/certificates?status=pending&limit=1", nil, &pending); err != nil {
			return err
		}
		if len(pending.Items) == 0 {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
