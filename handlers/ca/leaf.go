package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the method of RFC 5280 section 4.2.1.2, an identifier only
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"time"

	"github.com/certctl/certctl"
)

// Request is what a leaf is made from. The same request gives the same
// to-be-signed bytes.
type Request struct {
	Names   certctl.Names
	SPKI    []byte // the key, of a certificate request whose signature has been checked
	Profile certctl.Profile
	Serial  certctl.Serial
	At      time.Time // the attempt's start: the clock of the leaf
}

// leafBackdate is how far before At a leaf begins, for relying parties whose
// clocks are behind.
const leafBackdate = time.Minute

// Prepared is a leaf that could be signed now.
type Prepared struct {
	Digest  certctl.Digest // SHA-256 of the to-be-signed bytes
	Clamped bool           // ends with the authority, before the profile's validity

	authority *Authority
	tbs       []byte
}

// Prepare checks a request against the profile and builds the bytes that Sign
// will sign, without signing.
func (a *Authority) Prepare(r Request) (*Prepared, error) {
	if err := r.Profile.CheckNames(r.Names); err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(r.SPKI)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the public key cannot be read")
	}
	algorithm, err := certctl.AlgorithmOf(public)
	if err != nil {
		return nil, err
	}
	if err := r.Profile.CheckKey(algorithm); err != nil {
		return nil, err
	}
	template, err := a.template(r, public)
	if err != nil {
		return nil, err
	}
	p := &Prepared{authority: a}
	wanted := template.NotBefore.Add(time.Duration(r.Profile.Validity))
	if end := a.Certificate.NotAfter; wanted.After(end) {
		if end.Sub(template.NotBefore) < time.Duration(r.Profile.Validity)/2 {
			return nil, certctl.Errorf(certctl.Conflict, "the authority ends on %s, before half of this profile's validity of %s would have passed",
				end.Format(time.DateOnly), r.Profile.Validity).WithRemedy("wait for the issuer's next authority, or use a profile with a shorter validity")
		}
		wanted, p.Clamped = end, true
	}
	template.NotAfter = wanted
	if p.tbs, err = a.tbs(template, public); err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "no certificate can be built from this request")
	}
	p.Digest = certctl.DigestOf(p.tbs)
	return p, nil
}

// Sign lints the prepared bytes and signs them: what was linted is what is signed,
// with one signature. Lint errors are Invalid.
//
// An authority's first signature is verified, and one of a hundred afterwards: a
// key whose hardware has gone bad does not stay unnoticed, and what costs twice as
// much as signing is not done for each leaf.
func (p *Prepared) Sign() (der []byte, warnings int, err error) {
	linted, err := p.authority.Linter.lint(p.tbs)
	if err == nil {
		err = linted.err()
	}
	if err != nil {
		return nil, 0, err
	}
	signature, err := crypto.SignMessage(p.authority.key, rand.Reader, p.tbs, p.authority.signing.opts)
	if err == nil {
		der, err = wrap(p.tbs, signature)
	}
	if err == nil {
		err = p.authority.prove(der)
	}
	if err != nil {
		return nil, 0, certctl.Wrap(certctl.Internal, err, "the certificate cannot be signed")
	}
	return der, linted.warnings, nil
}

// provedOneIn is how many leaves share one verification of a signature.
const provedOneIn = 100

// prove verifies the signature of some of the leaves: of all, once a bad one was
// found, until there is a good one again.
func (a *Authority) prove(der []byte) error {
	if a.proved.Load() && mathrand.N(provedOneIn) > 0 {
		return nil
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	if err := leaf.CheckSignatureFrom(a.Certificate); err != nil {
		a.proved.Store(false)
		return certctl.Wrap(certctl.Internal, err, "the key of authority %s made a signature that is not valid", a.ID)
	}
	a.proved.Store(true)
	return nil
}

var extendedKeyUsages = map[certctl.ExtendedKeyUsage]x509.ExtKeyUsage{
	certctl.ServerAuth: x509.ExtKeyUsageServerAuth, certctl.ClientAuth: x509.ExtKeyUsageClientAuth,
	certctl.CodeSigning: x509.ExtKeyUsageCodeSigning, certctl.EmailProtection: x509.ExtKeyUsageEmailProtection,
}

// template is everything of a leaf but its end.
func (a *Authority) template(r Request, public crypto.PublicKey) (*x509.Certificate, error) {
	serial := r.Serial.Int()
	if serial == nil || serial.Sign() <= 0 {
		return nil, certctl.Errorf(certctl.Internal, "the attempt has no serial number")
	}
	keyID := sha1.Sum(r.SPKI) //nolint:gosec // see the import
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: r.Names.CommonName()},
		NotBefore: r.At.Add(-leafBackdate).UTC().Truncate(time.Second), KeyUsage: x509.KeyUsageDigitalSignature,
		SubjectKeyId: keyID[:], BasicConstraintsValid: true, DNSNames: r.Names.DNS, EmailAddresses: r.Names.Email,
	}
	if _, ok := public.(*rsa.PublicKey); ok {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	for _, usage := range r.Profile.EKUs {
		template.ExtKeyUsage = append(template.ExtKeyUsage, extendedKeyUsages[usage])
	}
	for _, addr := range r.Names.IP {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
	}
	for _, text := range r.Names.URI {
		uri, err := url.Parse(text)
		if err != nil {
			return nil, certctl.InvalidField("/uris", "%q is not a URI", certctl.Clip(text, 80))
		}
		template.URIs = append(template.URIs, uri)
	}
	a.revocationInfo(template, r)
	return template, nil
}

// noRevAvail is the extension of RFC 9608.
var noRevAvail = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 56}, Value: []byte{0x05, 0x00}}

// revocationInfo says where revocation is published, or that it is not
// (RFC 9608), and where the CA certificate is.
func (a *Authority) revocationInfo(template *x509.Certificate, r Request) {
	base := URL(a.PKIURL, a.ID)
	template.IssuingCertificateURL = []string{base + "/ca.crt"}
	if r.Profile.NoRevocation {
		template.ExtraExtensions = append(template.ExtraExtensions, noRevAvail)
		return
	}
	template.CRLDistributionPoints = []string{a.ShardURL(Shard(r.Serial, a.Shards))}
	template.OCSPServer = []string{base + "/ocsp"}
}

// ShardURL is where the list of a shard is published.
func (a *Authority) ShardURL(shard int) string {
	return fmt.Sprintf("%s/crl/%d.crl", URL(a.PKIURL, a.ID), shard)
}

// Shard is the list that a serial number belongs to: its low bits.
func Shard(serial certctl.Serial, shards int) int {
	octets := serial.Int().Bytes()
	low := 0
	for _, octet := range octets[max(0, len(octets)-2):] {
		low = low<<8 | int(octet)
	}
	return low % shards
}
