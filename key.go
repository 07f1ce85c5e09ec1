package certctl

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// KeyAlgorithm names a kind and size of key pair.
type KeyAlgorithm string

const (
	ECDSAP256 KeyAlgorithm = "ecdsa-p256"
	ECDSAP384 KeyAlgorithm = "ecdsa-p384"
	RSA2048   KeyAlgorithm = "rsa-2048"
	RSA3072   KeyAlgorithm = "rsa-3072"
	RSA4096   KeyAlgorithm = "rsa-4096"
	Ed25519   KeyAlgorithm = "ed25519"
)

// KeyAlgorithms lists every algorithm, the default first.
var KeyAlgorithms = []KeyAlgorithm{ECDSAP256, ECDSAP384, RSA2048, RSA3072, RSA4096, Ed25519}

// Generate makes a key pair of the algorithm.
func (a KeyAlgorithm) Generate() (crypto.Signer, error) {
	switch a {
	case ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, Errorf(Invalid, "unknown key algorithm %q", string(a))
}

// AlgorithmOf names the algorithm of a public key, or refuses it as one that
// this platform neither makes nor signs.
func AlgorithmOf(public crypto.PublicKey) (KeyAlgorithm, error) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return ECDSAP256, nil
		case elliptic.P384():
			return ECDSAP384, nil
		}
		return "", Errorf(Invalid, "ECDSA keys are on P-256 or P-384")
	case *rsa.PublicKey:
		switch key.N.BitLen() {
		case 2048:
			return RSA2048, nil
		case 3072:
			return RSA3072, nil
		case 4096:
			return RSA4096, nil
		}
		return "", Errorf(Invalid, "RSA keys have 2048, 3072 or 4096 bits, this one has %d", key.N.BitLen())
	case ed25519.PublicKey:
		return Ed25519, nil
	}
	return "", Errorf(Invalid, "keys are ECDSA, RSA or Ed25519")
}

// Digest is a SHA-256 value: of a certificate's DER (fingerprint), of a
// SubjectPublicKeyInfo's DER (SPKI hash), of a chain or of an event.
type Digest [sha256.Size]byte

// DigestOf hashes b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// SPKIHash returns the digest of the key's SubjectPublicKeyInfo.
func SPKIHash(public crypto.PublicKey) (Digest, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Digest{}, Wrap(Invalid, err, "the public key cannot be encoded")
	}
	return DigestOf(der), nil
}

// String returns lower-case hex without separators.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d is absent.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText returns the hex form; the absent digest is empty.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	if len(text) != 2*len(d) {
		return Errorf(Invalid, "a SHA-256 digest has %d hex digits", 2*len(d))
	}
	if _, err := hex.Decode(d[:], text); err != nil {
		return Errorf(Invalid, "a SHA-256 digest is written in hex digits")
	}
	return nil
}
