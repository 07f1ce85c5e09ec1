// Package egress is how the server reaches addresses that a setting names. One
// policy decides which addresses may be dialled, after resolution, so that no
// name leads to a cloud's metadata or, unless it is meant to, into the private
// network. Redirects are not followed, and the environment's proxy is not used:
// either would move the decision elsewhere.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/certctl/certctl"
)

// Policy says which addresses may be reached. Link-local, multicast and
// unspecified ones, and those of clouds' metadata, never may.
type Policy struct {
	Private bool // loopback, private and carrier-grade NAT networks, too
}

// Times of one request.
const (
	dialTimeout    = 10 * time.Second
	requestTimeout = 30 * time.Second
)

// idleConns is how many connections to a host are kept: as many as a worker uses
// at a time, else most questions of a recall pay for a handshake, on both sides.
const idleConns = 64

// metadata are addresses outside link-local ones at which clouds tell secrets to
// whoever asks.
var metadata = []netip.Addr{
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
}

// private are networks, besides those that netip knows, that the Internet does
// not route.
var private = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b:1::/48"),
}

// embedded are IPv6 networks whose addresses hold an IPv4 address at an offset.
var embedded = []struct {
	prefix netip.Prefix
	offset int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, {netip.MustParsePrefix("2002::/16"), 2},
}

// Check refuses an address that may not be reached. The error is Denied.
func (p Policy) Check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	for _, e := range embedded {
		if e.prefix.Contains(addr) {
			b := addr.As16()
			addr = netip.AddrFrom4([4]byte(b[e.offset : e.offset+4]))
		}
	}
	for _, m := range metadata {
		if addr == m {
			return certctl.Errorf(certctl.Denied, "%s tells a cloud's secrets: it is never asked", addr)
		}
	}
	if !addr.IsValid() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return certctl.Errorf(certctl.Denied, "%s is a link-local or special address: it is never asked", addr)
	}
	inside := addr.IsLoopback() || addr.IsPrivate()
	for _, prefix := range private {
		inside = inside || prefix.Contains(addr)
	}
	if inside && !p.Private {
		return certctl.Errorf(certctl.Denied, "%s is an address of a private network", addr).
			WithRemedy("set allow_private_networks in the settings, if that is meant")
	}
	return nil
}

// Dialer connects where the policy allows. It sees each address after
// resolution, immediately before the connection is made.
func (p Policy) Dialer() *net.Dialer {
	return &net.Dialer{
		Timeout: dialTimeout,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return certctl.Wrap(certctl.Denied, err, "not an address")
			}
			return p.Check(to.Addr())
		},
	}
}

// Client returns a client for HTTPS with the given roots; nil are the system's.
func (p Policy) Client(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout:       requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         p.Dialer().DialContext,
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: requestTimeout,
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: idleConns, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		},
	}
}
