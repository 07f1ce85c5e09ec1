package ca

import (
	"bytes"
	"crypto"
	_ "crypto/sha512" // SHA-384 and SHA-512 may name an issuer
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"

	"github.com/certctl/certctl"
)

// OCSPStatus is why there is no answer (RFC 6960 section 4.2.1).
type OCSPStatus int

// The statuses that are given.
const (
	OCSPMalformed    OCSPStatus = 1
	OCSPInternal     OCSPStatus = 2
	OCSPTryLater     OCSPStatus = 3
	OCSPUnauthorized OCSPStatus = 6
)

// Refusal is the unsigned answer of a status.
func (s OCSPStatus) Refusal() []byte { return []byte{0x30, 0x03, 0x0a, 0x01, byte(s)} }

func (s OCSPStatus) Error() string {
	switch s {
	case OCSPMalformed:
		return "the request cannot be read"
	case OCSPTryLater:
		return "try again later"
	case OCSPUnauthorized:
		return "this responder does not answer for that issuer"
	}
	return "internal error"
}

// maxOCSPSerials is how many certificates one request may ask about.
const maxOCSPSerials = 32

// OCSPRequest is what a relying party asks.
type OCSPRequest struct {
	ids   []certID
	nonce []byte // the extension's value as it came
}

// certID names a certificate by hashes of its issuer.
type certID struct {
	raw      []byte
	hash     crypto.Hash
	nameHash []byte
	keyHash  []byte
	serial   certctl.Serial
}

// Serials returns the serial numbers asked for.
func (q OCSPRequest) Serials() []certctl.Serial {
	out := make([]certctl.Serial, len(q.ids))
	for i, id := range q.ids {
		out[i] = id.serial
	}
	return out
}

// ocspHashes are the hashes that issuers may be named by.
var ocspHashes = map[string]crypto.Hash{
	"1.3.14.3.2.26":          crypto.SHA1,
	"2.16.840.1.101.3.4.2.1": crypto.SHA256,
	"2.16.840.1.101.3.4.2.2": crypto.SHA384,
	"2.16.840.1.101.3.4.2.3": crypto.SHA512,
}

// ParseOCSPRequest reads an OCSPRequest (RFC 6960 section 4.1.1). A signature on
// it is not looked at. Errors are OCSPMalformed.
func ParseOCSPRequest(der []byte) (OCSPRequest, error) {
	var wire struct {
		TBS struct {
			Version       int              `asn1:"explicit,tag:0,default:0,optional"`
			RequestorName asn1.RawValue    `asn1:"explicit,tag:1,optional"`
			Requests      []asn1.RawValue  // each a Request
			Extensions    []pkix.Extension `asn1:"explicit,tag:2,optional"`
		}
	}
	rest, err := asn1.Unmarshal(der, &wire)
	if err != nil || len(rest) > 0 || len(wire.TBS.Requests) == 0 || len(wire.TBS.Requests) > maxOCSPSerials {
		return OCSPRequest{}, OCSPMalformed
	}
	var q OCSPRequest
	for _, raw := range wire.TBS.Requests {
		id, err := parseCertID(raw)
		if err != nil {
			return OCSPRequest{}, err
		}
		q.ids = append(q.ids, id)
	}
	for _, extension := range wire.TBS.Extensions {
		if !extension.Id.Equal(oidNonce) {
			continue
		}
		var nonce []byte
		if rest, err := asn1.Unmarshal(extension.Value, &nonce); err != nil || len(rest) > 0 || len(nonce) == 0 || len(nonce) > 128 {
			return OCSPRequest{}, OCSPMalformed
		}
		q.nonce = extension.Value
	}
	return q, nil
}

func parseCertID(request asn1.RawValue) (certID, error) {
	var wire struct{ ID asn1.RawValue }
	var parts struct {
		Hash     pkix.AlgorithmIdentifier
		NameHash []byte
		KeyHash  []byte
		Serial   *big.Int
	}
	if _, err := asn1.Unmarshal(request.FullBytes, &wire); err != nil {
		return certID{}, OCSPMalformed
	}
	if _, err := asn1.Unmarshal(wire.ID.FullBytes, &parts); err != nil || parts.Serial.Sign() <= 0 || parts.Serial.BitLen() > 160 {
		return certID{}, OCSPMalformed
	}
	return certID{
		raw: wire.ID.FullBytes, hash: ocspHashes[parts.Hash.Algorithm.String()],
		nameHash: parts.NameHash, keyHash: parts.KeyHash, serial: certctl.SerialOf(parts.Serial),
	}, nil
}

// Answers refuses a request about leaves of another issuer with
// OCSPUnauthorized, also when it is only one of several.
func (r *Responder) Answers(request OCSPRequest) error {
	for _, id := range request.ids {
		if id.hash == 0 || !bytes.Equal(id.nameHash, sum(id.hash, r.issuer.RawSubject)) || !bytes.Equal(id.keyHash, sum(id.hash, r.issuerKey)) {
			return OCSPUnauthorized
		}
	}
	return nil
}

func sum(hash crypto.Hash, data []byte) []byte {
	h := hash.New()
	h.Write(data)
	return h.Sum(nil)
}
