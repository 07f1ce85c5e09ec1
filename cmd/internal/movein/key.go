package movein

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"

	"github.com/certctl/certctl"
)

// maxModulus bounds an RSA key in bytes, before anything is computed with it.
const maxModulus = 1024

var errKey = certctl.Errorf(certctl.Invalid, "holds no private key that can be read")

// keyJWK reads a private key as RFC 7518 section 6 writes it, and returns it as
// PEM.
func keyJWK(text []byte) (Secret, error) {
	var jwk struct{ Kty, Crv, N, E, D, P, Q string }
	if err := json.Unmarshal(text, &jwk); err != nil {
		return "", errKey
	}
	var key crypto.PrivateKey
	var err error
	switch jwk.Kty {
	case "RSA":
		key, err = rsaOf(jwk.N, jwk.E, jwk.D, jwk.P, jwk.Q)
	case "EC":
		curve, known := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384()}[jwk.Crv]
		raw, decodeErr := base64.RawURLEncoding.DecodeString(jwk.D)
		if !known || decodeErr != nil {
			return "", errKey
		}
		key, err = ecdsa.ParseRawPrivateKey(curve, raw)
	default:
		return "", errKey
	}
	if err != nil {
		return "", errKey
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", errKey
	}
	return Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

func rsaOf(parts ...string) (*rsa.PrivateKey, error) {
	numbers := make([]*big.Int, len(parts))
	for i, part := range parts {
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
		if err != nil || len(raw) == 0 || len(raw) > maxModulus {
			return nil, errKey
		}
		numbers[i] = new(big.Int).SetBytes(raw)
	}
	if !numbers[1].IsInt64() || numbers[1].Int64() > 1<<31-1 {
		return nil, errKey
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: numbers[0], E: int(numbers[1].Int64())}, D: numbers[2], Primes: numbers[3:],
	}
	if err := key.Validate(); err != nil {
		return nil, errKey
	}
	key.Precompute()
	return key, nil
}

// keyPEM reads the first private key of a PEM file. OpenSSL writes the parameters
// of a curve before it.
func keyPEM(text []byte) (Secret, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return "", errKey
		}
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			_, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			_, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			_, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return "", errKey
		}
		block.Headers = nil
		return Secret(pem.EncodeToMemory(block)), nil
	}
}

// chainPEM is the certificates of files, each once, without what else is in them.
func chainPEM(files ...[]byte) (string, error) {
	var out bytes.Buffer
	seen := map[string]bool{}
	for _, text := range files {
		for {
			var block *pem.Block
			if block, text = pem.Decode(text); block == nil {
				break
			}
			if block.Type != "CERTIFICATE" || seen[string(block.Bytes)] {
				continue
			}
			if _, err := x509.ParseCertificate(block.Bytes); err != nil {
				return "", certctl.Errorf(certctl.Invalid, "holds a certificate that cannot be read")
			}
			seen[string(block.Bytes)] = true
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}) // into memory
		}
	}
	if len(seen) == 0 {
		return "", certctl.Errorf(certctl.Invalid, "holds no certificate")
	}
	return out.String(), nil
}
