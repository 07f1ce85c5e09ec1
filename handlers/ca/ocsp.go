package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // RFC 6960 names issuers by it; it proves nothing
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"

	"github.com/certctl/certctl"
)

// Life of a responder's certificate, and how long an answer may be relied on.
const (
	ResponderValidity = 30 * certctl.Day
	OCSPValidity      = 12 * time.Hour
)

var (
	oidNoCheck       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	oidBasicResponse = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidNonce         = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
)

// NewResponder makes a key and a certificate with which somebody else may answer
// for the authority. The certificate is exempt from being checked itself, and
// short-lived for that (RFC 6960 section 4.2.2.2.1).
func (a *Authority) NewResponder(now time.Time) (Made, error) {
	algorithm, err := certctl.AlgorithmOf(a.Certificate.PublicKey)
	if err != nil {
		return Made{}, err
	}
	key, err := algorithm.Generate()
	if err != nil {
		return Made{}, err
	}
	subject := a.Certificate.Subject
	subject.CommonName = certctl.Clip(subject.CommonName, 50) + " OCSP"
	template := &x509.Certificate{
		SerialNumber: NewSerial(), Subject: pkix.Name{CommonName: subject.CommonName, Organization: subject.Organization},
		NotBefore: now.Add(-backdate).UTC().Truncate(time.Second), NotAfter: now.Add(ResponderValidity).UTC().Truncate(time.Second),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		BasicConstraintsValid: true, ExtraExtensions: []pkix.Extension{{Id: oidNoCheck, Value: asn1.NullBytes}},
	}
	if template.NotAfter.After(a.Certificate.NotAfter) {
		template.NotAfter = a.Certificate.NotAfter
	}
	return sign(template, a.Certificate, key, a.key)
}

// Responder signs answers for one authority.
type Responder struct {
	certificate *x509.Certificate
	keyHash     []byte
	key         crypto.Signer
	algorithm   pkix.AlgorithmIdentifier
	hash        crypto.Hash
	issuer      *x509.Certificate
	issuerKey   []byte // the authority's public key as the hashes in requests are made of it
}

// LoadResponder returns a responder with its key, after proving that key,
// certificate and authority belong together.
func LoadResponder(certificate []byte, key crypto.Signer, authority []byte) (*Responder, error) {
	r := &Responder{key: key}
	var err error
	if r.certificate, err = x509.ParseCertificate(certificate); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the responder's certificate cannot be read")
	}
	if r.issuer, err = x509.ParseCertificate(authority); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the authority's certificate cannot be read")
	}
	if err := r.certificate.CheckSignatureFrom(r.issuer); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the responder is not this authority's")
	}
	if mine, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !mine.Equal(r.certificate.PublicKey) {
		return nil, certctl.Errorf(certctl.Internal, "the responder's key does not match its certificate")
	}
	own, err := publicKeyBits(r.certificate)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(own) //nolint:gosec // see the import
	r.keyHash = sum[:]
	if r.issuerKey, err = publicKeyBits(r.issuer); err != nil {
		return nil, err
	}
	r.algorithm, r.hash, err = signatureAlgorithm(key.Public())
	return r, err
}

// NotAfter is when the responder's certificate ends.
func (r *Responder) NotAfter() time.Time { return r.certificate.NotAfter }

// publicKeyBits returns the value of subjectPublicKey, without tag, length and
// number of unused bits (RFC 6960 section 4.1.1).
func publicKeyBits(certificate *x509.Certificate) ([]byte, error) {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(certificate.RawSubjectPublicKeyInfo, &spki); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "a public key cannot be read")
	}
	return spki.PublicKey.RightAlign(), nil
}

// singleResponse is what RFC 6960 section 4.2.1 names so; Status is a choice.
type singleResponse struct {
	CertID     asn1.RawValue
	Status     asn1.RawValue
	ThisUpdate time.Time `asn1:"generalized"`
	NextUpdate time.Time `asn1:"generalized,explicit,tag:0"`
}

type revokedInfo struct {
	At     time.Time       `asn1:"generalized"`
	Reason asn1.Enumerated `asn1:"explicit,tag:0"`
}

type responseData struct {
	KeyHash    []byte    `asn1:"explicit,tag:2"`
	ProducedAt time.Time `asn1:"generalized"`
	Responses  []singleResponse
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional,omitempty"`
}

type basicResponse struct {
	Data         asn1.RawValue
	Algorithm    pkix.AlgorithmIdentifier
	Signature    asn1.BitString
	Certificates []asn1.RawValue `asn1:"explicit,tag:0"`
}

type responseBytes struct {
	Type     asn1.ObjectIdentifier
	Response []byte
}

type ocspResponse struct {
	Status asn1.Enumerated
	Bytes  responseBytes `asn1:"explicit,tag:0"`
}

// Respond signs what is known of each serial number that was asked for, at one
// moment. The nonce of the request comes back (RFC 9654).
func (r *Responder) Respond(request OCSPRequest, known map[certctl.Serial]certctl.SerialStatus, now time.Time) (certctl.OCSPAnswer, error) {
	now = now.UTC().Truncate(time.Second)
	answer := certctl.OCSPAnswer{ThisUpdate: now, NextUpdate: r.nextUpdate(now), Nonce: request.nonce != nil}
	data := responseData{KeyHash: r.keyHash, ProducedAt: now}
	for _, id := range request.ids {
		status, err := encodeStatus(known[id.serial])
		if err != nil {
			return answer, err
		}
		data.Responses = append(data.Responses, singleResponse{
			CertID: asn1.RawValue{FullBytes: id.raw}, Status: status, ThisUpdate: now, NextUpdate: answer.NextUpdate,
		})
	}
	if request.nonce != nil {
		data.Extensions = []pkix.Extension{{Id: oidNonce, Value: request.nonce}}
	}
	var err error
	answer.DER, err = r.sign(data)
	return answer, err
}

// nextUpdate does not promise more than the responder's certificate does.
func (r *Responder) nextUpdate(now time.Time) time.Time {
	if next := now.Add(OCSPValidity); next.Before(r.certificate.NotAfter) {
		return next
	}
	return r.certificate.NotAfter
}

func (r *Responder) sign(data responseData) ([]byte, error) {
	tbs, err := asn1.Marshal(data)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the answer cannot be encoded")
	}
	digest := tbs
	if r.hash != 0 {
		h := r.hash.New()
		h.Write(tbs)
		digest = h.Sum(nil)
	}
	signature, err := r.key.Sign(rand.Reader, digest, r.hash)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the answer cannot be signed")
	}
	basic, err := asn1.Marshal(basicResponse{
		Data: asn1.RawValue{FullBytes: tbs}, Algorithm: r.algorithm,
		Signature:    asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
		Certificates: []asn1.RawValue{{FullBytes: r.certificate.Raw}},
	})
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the answer cannot be encoded")
	}
	der, err := asn1.Marshal(ocspResponse{Bytes: responseBytes{Type: oidBasicResponse, Response: basic}})
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the answer cannot be encoded")
	}
	return der, nil
}

// encodeStatus is the choice good [0], revoked [1], unknown [2].
func encodeStatus(s certctl.SerialStatus) (asn1.RawValue, error) {
	switch {
	case !s.Known:
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2}, nil
	case s.RevokedAt.IsZero():
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0}, nil
	}
	code, _ := s.Reason.Code() // unknown ones are 0, unspecified
	der, err := asn1.MarshalWithParams(revokedInfo{At: s.RevokedAt.UTC().Truncate(time.Second), Reason: asn1.Enumerated(code)}, "tag:1")
	if err != nil {
		return asn1.RawValue{}, certctl.Wrap(certctl.Internal, err, "the revocation cannot be encoded")
	}
	return asn1.RawValue{FullBytes: der}, nil
}

// signatureAlgorithm is how keys of a kind sign answers: as they sign
// certificates (RFC 5758, 4055, 8410). Ed25519 signs the message itself.
func signatureAlgorithm(public crypto.PublicKey) (pkix.AlgorithmIdentifier, crypto.Hash, error) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, crypto.SHA256, nil
		}
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}}, crypto.SHA384, nil
	case *rsa.PublicKey:
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue}, crypto.SHA256, nil
	case ed25519.PublicKey:
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 101, 112}}, 0, nil
	}
	return pkix.AlgorithmIdentifier{}, 0, certctl.Errorf(certctl.Internal, "no signature algorithm is known for this kind of key")
}
