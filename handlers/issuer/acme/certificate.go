package acme

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"

	"github.com/certctl/certctl"
	legoacme "github.com/go-acme/lego/v4/acme"
)

// maxChain bounds what a CA may send besides the leaf.
const maxChain = 10

// download fetches the certificate with the chain that the settings prefer.
func (a *attempt) download() (step, error) {
	issued, err := a.ca.fetch(a.session, a.state.Certificate)
	a.issued = issued
	return stepDownload, err
}

func (c *CA) fetch(s *session, url string) (certctl.Issued, error) {
	all, err := s.Certificates.GetAll(url, true)
	if err != nil {
		return certctl.Issued{}, s.transport.failed(err, "the certificate cannot be fetched")
	}
	return chooseChain(all, url, c.settings.Chain)
}

// chooseChain returns the certificate with the chain whose topmost certificate
// names the preferred issuer, and else with the one that the CA offers first.
func chooseChain(all map[string]*legoacme.RawCertificate, first, preferred string) (certctl.Issued, error) {
	var chosen certctl.Issued
	urls := make([]string, 0, len(all))
	for url := range all {
		if url != first {
			urls = append(urls, url)
		}
	}
	slices.Sort(urls)
	for _, url := range append([]string{first}, urls...) {
		raw := all[url]
		if raw == nil {
			continue
		}
		issued, top, err := parseChain(raw.Cert)
		if err != nil {
			return chosen, err
		}
		if url == first || preferred != "" && top.Issuer.CommonName == preferred {
			chosen = issued
		}
		if preferred == "" || top.Issuer.CommonName == preferred {
			break
		}
	}
	return chosen, nil
}

// parseChain reads a PEM chain (RFC 8555 section 9.1), without a root at its end.
func parseChain(text []byte) (certctl.Issued, *x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" || len(certs) > maxChain {
			return certctl.Issued{}, nil, badChain(err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return certctl.Issued{}, nil, badChain(nil)
	}
	if last := certs[len(certs)-1]; len(certs) > 1 && bytes.Equal(last.RawIssuer, last.RawSubject) {
		certs = certs[:len(certs)-1]
	}
	issued := certctl.Issued{Leaf: certs[0].Raw}
	for _, cert := range certs[1:] {
		issued.Chain = append(issued.Chain, cert.Raw)
	}
	return issued, certs[len(certs)-1], nil
}

func badChain(cause error) *certctl.IssueError {
	return &certctl.IssueError{
		Kind: certctl.FailRetryable, Code: "acme_bad_chain", Outage: true, Resume: true, Cause: cause, Message: "what the CA sent is no chain of certificates",
	}
}
