package remote

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote/kube"
)

// Times of a request to a vendor.
const (
	egressTimeout = 20 * time.Second
	egressDial    = 10 * time.Second
)

// maxSmallFile bounds what holds credentials or CA certificates on this node, in bytes.
const maxSmallFile = 64 << 10

// egress is how vendors' libraries talk: to no host that the node's policy does not
// allow, whatever they would like to ask on the way, such as for credentials. It
// follows no redirect: what it sends is for one host.
type egress struct {
	policy HostPolicy
	via    *http.Transport
}

// RoundTrip refuses hosts.
func (e egress) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := e.allow(r.URL); err != nil {
		return nil, err
	}
	return e.via.RoundTrip(r)
}

func (e egress) allow(to *url.URL) error {
	port := "443"
	if to.Scheme == "http" {
		port = "80" // machines are told their credentials so, by their own hosts
	}
	return e.policy.AllowHost(hostPort(to.Host, port))
}

// newEgress trusts the node's roots, or those in a file.
func newEgress(p target.Policy, caFile string) (e egress, err error) {
	hosts, ok := p.(HostPolicy)
	if !ok {
		return e, certctl.Errorf(certctl.Denied, "the policy of this node allows no other hosts")
	}
	var roots *x509.CertPool
	if caFile != "" {
		content, err := kube.ReadSmall(caFile, maxSmallFile)
		if err != nil {
			return e, err
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(content) {
			return e, certctl.Errorf(certctl.Invalid, "%s holds no certificate", caFile)
		}
	}
	return egress{hosts, &http.Transport{
		DialContext: (&net.Dialer{Timeout: egressDial}).DialContext, TLSHandshakeTimeout: egressDial, IdleConnTimeout: egressTimeout,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1,
	}}, nil
}

// client sends requests so.
func (e egress) client() *http.Client {
	return &http.Client{
		Transport: e, Timeout: egressTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
