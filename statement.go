package certctl

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"
)

// Domain separates what the platform's Ed25519 keys sign, so that a signature
// made for one purpose is worth nothing for another.
type Domain string

const (
	DomainAgent       Domain = "certctl/v1/agent"       // by an agent's signing key: requests and reports
	DomainCommand     Domain = "certctl/v1/command"     // by a command key: commands to agents
	DomainTrust       Domain = "certctl/v1/trust"       // by the fleet key: TrustDocument
	DomainEnrolment   Domain = "certctl/v1/enrolment"   // by the fleet key: an agent's id and keys
	DomainCredentials Domain = "certctl/v1/credentials" // by an agent's signing key: the server's nonce
)

// Statement is something said once by somebody about one object, with a
// signature over all of it. Nothing is read from Body before Verify succeeded.
type Statement struct {
	Domain       Domain    `json:"domain"`
	Installation ID        `json:"installation"`
	Agent        ID        `json:"agent,omitzero"` // the sender, or the addressee of a command
	Kind         string    `json:"kind"`
	Object       ID        `json:"object,omitzero"` // what it is about: an order, a deployment, a target
	Number       int64     `json:"number"`          // command number or attempt; 0 where there is none
	Time         time.Time `json:"time"`            // second precision, UTC
	Key          string    `json:"key"`             // first 8 bytes of the SHA-256 of the public key, hex
	Body         []byte    `json:"body"`
	Signature    []byte    `json:"signature"`
}

// NewStatement returns a statement, signed by key (Ed25519), whose body is the
// JSON of body.
func NewStatement(key crypto.Signer, s Statement, body any) (Statement, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return Statement{}, Wrap(Internal, err, "a %s statement cannot be encoded", s.Kind)
	}
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return Statement{}, Errorf(Internal, "statements are signed with Ed25519 keys")
	}
	s.Body, s.Key, s.Time = encoded, KeyID(public), s.Time.UTC().Truncate(time.Second)
	s.Signature, err = key.Sign(rand.Reader, s.signed(), crypto.Hash(0))
	if err != nil {
		return Statement{}, Wrap(Internal, err, "a %s statement cannot be signed", s.Kind)
	}
	return s, nil
}

// KeyID names an Ed25519 public key in statements.
func KeyID(public ed25519.PublicKey) string { return DigestOf(public).String()[:16] }

// Verify reports whether the statement was made in the domain with the key.
func (s Statement) Verify(domain Domain, public ed25519.PublicKey) error {
	if s.Domain != domain || len(public) != ed25519.PublicKeySize || !ed25519.Verify(public, s.signed(), s.Signature) {
		return Errorf(Denied, "the signature of this %s statement is not valid", Clip(s.Kind, 40))
	}
	return nil
}

// Decode reads the body into v. Call it only after Verify.
func (s Statement) Decode(v any) error {
	if err := json.Unmarshal(s.Body, v); err != nil {
		return Wrap(Invalid, err, "the body of this %s statement cannot be read", s.Kind)
	}
	return nil
}

// Digest identifies a statement with all that it says and its signature, whether
// that is valid or not.
func (s Statement) Digest() Digest { return DigestOf(append(s.signed(), s.Signature...)) }

// signed returns the bytes under the signature: each field with its length
// before it, so that no two statements give the same bytes.
func (s Statement) signed() []byte {
	body := sha256.Sum256(s.Body)
	var out []byte
	for _, field := range [][]byte{
		[]byte(s.Domain), s.Installation[:], s.Agent[:], []byte(s.Kind), s.Object[:],
		binary.BigEndian.AppendUint64(nil, uint64(s.Number)),
		binary.BigEndian.AppendUint64(nil, uint64(s.Time.Unix())),
		[]byte(s.Key), body[:],
	} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(field)))
		out = append(out, field...)
	}
	return out
}
