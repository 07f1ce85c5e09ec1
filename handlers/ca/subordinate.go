package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"time"

	"github.com/certctl/certctl"
)

// NewKey makes the key of an issuing CA that a foreign CA will sign.
func NewKey(o Options) (crypto.Signer, error) {
	_, key, err := o.template("Issuing", IssuingValidity, time.Time{}.Add(RootValidity))
	return key, err
}

// Request returns the PKCS #10 request of an issuing CA, for a foreign CA. What
// that CA writes into the certificate is its own business; CheckSubordinate says
// whether we can work with it.
func (o Options) Request(key crypto.Signer) ([]byte, error) {
	template, _, err := o.template("Issuing", IssuingValidity, time.Time{}.Add(RootValidity))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: template.Subject}, key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the request cannot be signed")
	}
	return der, nil
}

// Subordinate is an issuing CA with the CAs above it.
type Subordinate struct {
	Chain certctl.Chain // the issuing CA and those above it, without the root
	Root  *x509.Certificate
}

// CheckSubordinate reads what a foreign CA answered: the issuing CA's
// certificate, the CAs that signed it in order, and the root at the end. It
// refuses what could not sign leaves, or what relying parties could not verify.
func CheckSubordinate(answer []*x509.Certificate, now time.Time) (Subordinate, error) {
	if len(answer) < 2 {
		return Subordinate{}, certctl.Errorf(certctl.Invalid, "the file must hold the CA's certificate and all above it, the root last")
	}
	var s Subordinate
	for i, c := range answer {
		switch {
		case !c.IsCA || !c.BasicConstraintsValid:
			return s, certctl.Errorf(certctl.Invalid, "certificate %d (%s) is not one of a CA", i+1, c.Subject)
		case c.KeyUsage&x509.KeyUsageCertSign == 0:
			return s, certctl.Errorf(certctl.Invalid, "certificate %d (%s) may not sign certificates: its key usage lacks keyCertSign", i+1, c.Subject)
		case now.After(c.NotAfter) || now.Before(c.NotBefore):
			return s, certctl.Errorf(certctl.Invalid, "certificate %d (%s) is not valid now", i+1, c.Subject)
		}
		if i+1 == len(answer) {
			break
		}
		if err := c.CheckSignatureFrom(answer[i+1]); err != nil {
			return s, certctl.Wrap(certctl.Invalid, err, "certificate %d (%s) was not signed by the one after it", i+1, c.Subject)
		}
		s.Chain = append(s.Chain, c.Raw)
	}
	if answer[0].KeyUsage&x509.KeyUsageCRLSign == 0 {
		return s, certctl.Errorf(certctl.Invalid, "the CA's certificate may not sign revocation lists: its key usage lacks cRLSign")
	}
	s.Root = answer[len(answer)-1]
	if !bytes.Equal(s.Root.RawSubject, s.Root.RawIssuer) || s.Root.CheckSignatureFrom(s.Root) != nil {
		return s, certctl.Errorf(certctl.Invalid, "the last certificate (%s) is not a root", s.Root.Subject)
	}
	return s, nil
}
