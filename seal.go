package certctl

import (
	"crypto/hpke"
	"encoding/binary"
)

// SealPurpose separates what is sealed to the same key, as Domain does for
// signatures.
type SealPurpose string

const (
	SealPrivateKey SealPurpose = "certctl/v1/key"    // InstallCommand.SealedKey; Object: the certificate
	SealSecrets    SealPurpose = "certctl/v1/secret" // TargetCommand.Secrets; Object: the target

	SealSharedKey SealPurpose = "certctl/v1/shared-key" // SealedKey, from node to node; Object: the holder
)

// SealInfo is what a sealed text is bound to: opened with any other info, it
// does not open. So a ciphertext cannot be moved to another certificate, key,
// target or node by whoever carries it.
type SealInfo struct {
	Purpose SealPurpose
	Object  ID
	Agent   ID     // the recipient
	SPKI    Digest // of the sealed key; zero for secrets
	Number  int64  // SealSharedKey: of the command that asked for it
}

// bytes is HPKE's info: the purpose, a zero byte, then fields of fixed length.
func (i SealInfo) bytes() []byte {
	out := append([]byte(i.Purpose), 0)
	out = append(out, i.Object[:]...)
	out = append(out, i.Agent[:]...)
	out = append(out, i.SPKI[:]...)
	if i.Purpose == SealSharedKey {
		out = binary.BigEndian.AppendUint64(out, uint64(i.Number)) //nolint:gosec // the bits count, not the value
	}
	return out
}

// NewSealingKey makes an X25519MLKEM768 key pair (HPKE's MLKEM768-X25519,
// X-Wing) in its serialised form. The public key has SealingKeySize bytes.
func NewSealingKey() (private, public []byte, err error) {
	key, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return nil, nil, Wrap(Internal, err, "a sealing key cannot be made")
	}
	private, err = key.Bytes()
	if err != nil {
		return nil, nil, Wrap(Internal, err, "a sealing key cannot be encoded")
	}
	return private, key.PublicKey().Bytes(), nil
}

// SealingPublicKey returns the public part of a private sealing key.
func SealingPublicKey(private []byte) ([]byte, error) {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(private)
	if err != nil {
		return nil, Wrap(Invalid, err, "not an X25519MLKEM768 private key")
	}
	return key.PublicKey().Bytes(), nil
}

// SealTo encrypts plaintext to a public sealing key (RFC 9180, base mode,
// HKDF-SHA256, AES-256-GCM). The result is the encapsulated key followed by the
// ciphertext.
func SealTo(recipient []byte, info SealInfo, plaintext []byte) ([]byte, error) {
	key, err := hpke.MLKEM768X25519().NewPublicKey(recipient)
	if err != nil {
		return nil, Wrap(Invalid, err, "not an X25519MLKEM768 public key")
	}
	sealed, err := hpke.Seal(key, hpke.HKDFSHA256(), hpke.AES256GCM(), info.bytes(), plaintext)
	if err != nil {
		return nil, Wrap(Internal, err, "the text cannot be sealed")
	}
	return sealed, nil
}

// OpenSealed decrypts what SealTo made for this key and info. Errors are Denied
// and do not say which of the two was wrong.
func OpenSealed(private []byte, info SealInfo, sealed []byte) ([]byte, error) {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(private)
	if err != nil {
		return nil, Wrap(Invalid, err, "not an X25519MLKEM768 private key")
	}
	plaintext, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), info.bytes(), sealed)
	if err != nil {
		return nil, Wrap(Denied, err, "this was not sealed to this node for this purpose")
	}
	return plaintext, nil
}
