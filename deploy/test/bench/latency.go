package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// latency submits certificates one after the other, each with a name of its
// own, and measures from the POST until nginx answers a handshake for that name
// with a certificate for it.
func latency(ctx context.Context, i *local.Installation, runs int) error {
	if err := i.EnsureTarget(ctx, "web"); err != nil {
		return err
	}
	accepted, served := make([]time.Duration, 0, runs), make([]time.Duration, 0, runs)
	for n := range runs {
		name := fmt.Sprintf("run-%d.bench.localhost", n)
		started := time.Now()
		err := i.API.Call(ctx, http.MethodPost, "/api/v1/certificates", map[string]any{
			"name": fmt.Sprintf("run-%d", n), "dns_names": []string{name}, "issuer": "local", "targets": []string{"web"},
		}, nil)
		if err != nil {
			return err
		}
		accepted = append(accepted, time.Since(started))
		if err := awaitServed(ctx, i.NginxAddress(), name); err != nil {
			return err
		}
		served = append(served, time.Since(started))
	}
	fmt.Printf("%d certificates, one after the other, fsync on, TLS everywhere\n\n", runs)
	fmt.Printf("%-24s %8s %8s %8s %8s\n", "", "min", "p50", "p99", "max")
	printRow("POST answered", accepted)
	printRow("served by nginx", served)
	return nil
}

// awaitServed shakes hands until the name's own certificate is served.
func awaitServed(ctx context.Context, address, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{
		ServerName:         name,
		InsecureSkipVerify: true, //nolint:gosec // only whose certificate it is counts here
	}}
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		connection, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			leaf := connection.(*tls.Conn).ConnectionState().PeerCertificates[0] //nolint:forcetypeassert // a tls.Dialer makes nothing else
			_ = connection.Close()                                               // all that counts was read
			if leaf.VerifyHostname(name) == nil {
				return nil
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s is not served within a minute", name), err)
		}
	}
}

func printRow(name string, figures []time.Duration) {
	slices.Sort(figures)
	at := func(share float64) string {
		index := min(int(share*float64(len(figures))), len(figures)-1)
		return fmt.Sprintf("%.1fms", float64(figures[index].Microseconds())/1000)
	}
	fmt.Printf("%-24s %8s %8s %8s %8s\n", name, at(0), at(0.5), at(0.99), at(1))
}
