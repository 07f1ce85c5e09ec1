package local

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
)

// Accepts returns a probe for [Process.Ready] that connects to an address.
func Accepts(network, address string) func(context.Context) error {
	return func(ctx context.Context) error {
		connection, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		return connection.Close()
	}
}

// ShakesHands returns a probe for [Process.Ready] that shakes hands at an address,
// whatever certificate is served there.
func ShakesHands(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // it trusts nothing that it hears
		connection, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return connection.Close()
	}
}

// Answers returns a probe for [Process.Ready] that gets a URL and expects 200.
func Answers(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	}
}
