// Package ca is the engine of the local CA: keys, serial numbers, leaves, lint,
// revocation lists. It imports nothing that talks: what it signs comes as
// arguments, and what it signed is returned.
//
// It guarantees that what was linted is what is signed, that a leaf can be
// prepared twice with the same to-be-signed bytes, and that no leaf outlives
// its authority.
package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl"
)

// Validity of authorities, and how far their beginning is dated back for
// relying parties whose clocks are behind.
const (
	RootValidity    = 20 * 365 * certctl.Day
	IssuingValidity = 5 * 365 * certctl.Day
	backdate        = time.Hour
)

// Options are what can be chosen before the first authority is made, and never
// afterwards.
type Options struct {
	Organization string               `json:"organization,omitempty"`
	Name         string               `json:"name,omitempty"` // common name's beginning; default "certctl"
	KeyAlgorithm certctl.KeyAlgorithm `json:"key_algorithm,omitempty"`
	RootDays     int                  `json:"root_days,omitempty"`
	IssuingDays  int                  `json:"issuing_days,omitempty"`
	Permitted    Constraints          `json:"permitted,omitzero"` // name constraints of root and issuing CA
	Excluded     Constraints          `json:"excluded,omitzero"`
}

// Constraints are names of each type (RFC 5280 section 4.2.1.10).
type Constraints struct {
	DNS   []string `json:"dns,omitempty"`
	IP    []string `json:"ip,omitempty"` // CIDR
	Email []string `json:"email,omitempty"`
	URI   []string `json:"uri,omitempty"`
}

// Made is a new authority with its private key in the clear.
type Made struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// Validate refuses options that no authority can be made with.
func (o Options) Validate() error {
	var bad certctl.FieldErrors
	if o.KeyAlgorithm != "" {
		if _, err := o.KeyAlgorithm.Generate(); err != nil {
			bad.Add("/authority/key_algorithm", "unknown key algorithm %q", certctl.Clip(string(o.KeyAlgorithm), 40))
		}
	}
	if o.RootDays < 0 || o.RootDays > 40*365 {
		bad.Add("/authority/root_days", "must be at most %d", 40*365)
	}
	if o.IssuingDays < 0 || o.IssuingDays > 20*365 {
		bad.Add("/authority/issuing_days", "must be at most %d", 20*365)
	}
	for _, c := range []struct {
		field string
		list  []string
	}{{"/authority/permitted/ip", o.Permitted.IP}, {"/authority/excluded/ip", o.Excluded.IP}} {
		if _, err := networks(c.list); err != nil {
			bad.Add(c.field, "%s", certctl.ErrorMessage(err))
		}
	}
	return bad.Err()
}

// NewRoot makes a root. Its subject carries a short random id, so that the roots
// of two installations are never taken for each other.
func NewRoot(o Options, now time.Time) (Made, error) {
	template, key, err := o.template("Root", o.days(o.RootDays, RootValidity), now)
	if err != nil {
		return Made{}, err
	}
	return sign(template, template, key, key)
}

// NewIssuing makes an issuing CA below a root: path length 0. parentURL is where
// the root's certificate and list are published; empty: nowhere.
func NewIssuing(o Options, root Made, parentURL string, now time.Time) (Made, error) {
	template, key, err := o.template("Issuing", o.days(o.IssuingDays, IssuingValidity), now)
	if err != nil {
		return Made{}, err
	}
	template.MaxPathLenZero = true
	if parentURL != "" {
		template.CRLDistributionPoints = []string{parentURL + "/crl.crl"}
		template.IssuingCertificateURL = []string{parentURL + "/ca.crt"}
	}
	if template.NotAfter.After(root.Certificate.NotAfter) {
		template.NotAfter = root.Certificate.NotAfter
	}
	return sign(template, root.Certificate, key, root.Key)
}

func (o Options) days(n int, otherwise time.Duration) time.Duration {
	if n == 0 {
		return otherwise
	}
	return time.Duration(n) * certctl.Day
}

func (o Options) template(kind string, validity time.Duration, now time.Time) (*x509.Certificate, crypto.Signer, error) {
	algorithm := o.KeyAlgorithm
	if algorithm == "" {
		algorithm = certctl.ECDSAP256
	}
	key, err := algorithm.Generate()
	if err != nil {
		return nil, nil, err
	}
	short := make([]byte, 4)
	_, _ = rand.Read(short) // never fails
	name := o.Name
	if name == "" {
		name = "certctl"
	}
	subject := pkix.Name{CommonName: name + " " + kind + " CA " + hex.EncodeToString(short)}
	if o.Organization != "" {
		subject.Organization = []string{o.Organization}
	}
	template := &x509.Certificate{
		SerialNumber: NewSerial(), Subject: subject,
		NotBefore: now.Add(-backdate).UTC().Truncate(time.Second), NotAfter: now.Add(validity).UTC().Truncate(time.Second),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	return template, key, o.constrain(template)
}

// constrain puts the name constraints into a template, critical as RFC 5280
// section 4.2.1.10 demands.
func (o Options) constrain(template *x509.Certificate) error {
	permitted, err := networks(o.Permitted.IP)
	if err != nil {
		return err
	}
	excluded, err := networks(o.Excluded.IP)
	if err != nil {
		return err
	}
	template.PermittedDNSDomains, template.ExcludedDNSDomains = o.Permitted.DNS, o.Excluded.DNS
	template.PermittedEmailAddresses, template.ExcludedEmailAddresses = o.Permitted.Email, o.Excluded.Email
	template.PermittedURIDomains, template.ExcludedURIDomains = o.Permitted.URI, o.Excluded.URI
	template.PermittedIPRanges, template.ExcludedIPRanges = permitted, excluded
	template.PermittedDNSDomainsCritical = true
	return nil
}

func networks(list []string) ([]*net.IPNet, error) {
	var out []*net.IPNet
	for _, text := range list {
		_, network, err := net.ParseCIDR(text)
		if err != nil {
			return nil, certctl.Errorf(certctl.Invalid, "%q is not a network such as 10.0.0.0/8", certctl.Clip(text, 60))
		}
		out = append(out, network)
	}
	return out, nil
}

func sign(template, parent *x509.Certificate, key, parentKey crypto.Signer) (Made, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return Made{}, certctl.Wrap(certctl.Internal, err, "the authority cannot be signed")
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return Made{}, certctl.Wrap(certctl.Internal, err, "the authority cannot be read back")
	}
	return Made{Certificate: certificate, Key: key}, nil
}

// NewSerial returns 20 octets with 159 random bits (RFC 5280 section 4.1.2.2):
// positive, and never fewer than 20.
func NewSerial() *big.Int {
	octets := make([]byte, 20)
	_, _ = rand.Read(octets) // never fails
	octets[0] &= 0x7f
	return new(big.Int).SetBytes(octets)
}

// ParseKey reads a PKCS#8 private key.
func ParseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "not a PKCS#8 private key")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, certctl.Errorf(certctl.Invalid, "this kind of key cannot sign")
	}
	return signer, nil
}

// URL is where what belongs to an authority is published, below the
// installation's URL for it. Leaves carry it for ever.
func URL(pkiURL string, authority certctl.ID) string {
	return pkiURL + "/.well-known/pki/" + authority.String()
}

// Authority signs leaves and lists.
type Authority struct {
	ID          certctl.ID
	Certificate *x509.Certificate
	Chain       certctl.Chain // from this authority up to, without, the root
	PKIURL      string
	Shards      int
	Linter      *Linter // of its leaves; nil: one that takes nothing from one leaf to the next
	key         crypto.Signer
	signing     signing     // as the algorithm in the leaves demands
	proved      atomic.Bool // a signature of its key has been verified
}

// Load returns an authority with its key, after proving that they and the chain
// belong together.
func Load(a certctl.Authority, key crypto.Signer) (*Authority, error) {
	certificate, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the certificate of authority %s cannot be read", a.ID)
	}
	mine, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !mine.Equal(certificate.PublicKey) {
		return nil, certctl.Errorf(certctl.Internal, "the key of authority %s does not match its certificate", a.ID)
	}
	if len(a.Chain) > 0 {
		if _, err := a.Chain[1:].Signed(certificate); err != nil || !bytes.Equal(a.Chain[0], a.Certificate) {
			return nil, certctl.Wrap(certctl.Internal, err, "the chain of authority %s is not that of its certificate", a.ID)
		}
	}
	how, err := signingOf(certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Authority{
		ID: a.ID, Certificate: certificate, Chain: a.Chain, PKIURL: a.PKIURL, Shards: a.Shards, key: key, signing: how,
	}, nil
}
