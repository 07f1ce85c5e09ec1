package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"

	"github.com/certctl/certctl"
)

// giveAccount makes the account of which a request brings the key the issuer's.
// The key is sealed with the account and no longer among the secrets: those are
// replaced as a whole, an account stays.
func (s *Server) giveAccount(request *certctl.IssuerRequest, secrets map[string]string) error {
	text, given := secrets[certctl.SecretAccountKey]
	if !given {
		return nil
	}
	directory, err := s.Issuers.Directory(request.Kind, request.Settings)
	if err != nil || directory == "" {
		return err // a kind without accounts has no such secret, which is said with the others
	}
	delete(secrets, certctl.SecretAccountKey)
	der, err := accountKey([]byte(text))
	if err != nil {
		return asField("/secrets/"+certctl.SecretAccountKey, err)
	}
	account := &certctl.ExternalAccount{ID: certctl.NewID(s.Now()), Directory: directory, Given: true}
	account.SealedKey, err = s.Seal("external_account", account.ID, "sealed_key", der)
	request.Account = account
	return err
}

// accountKey reads a key that ACME servers take (RFC 8555 section 6.2): RSA, or
// ECDSA on P-256 or P-384.
func accountKey(text []byte) ([]byte, error) {
	key, err := readKeyPEM(text)
	if err != nil {
		return nil, certctl.Errorf(certctl.Invalid, "must be one PEM block with an unencrypted private key")
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
	case *ecdsa.PrivateKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, certctl.Errorf(certctl.Invalid, "must be on P-256 or P-384")
		}
	default:
		return nil, certctl.Errorf(certctl.Invalid, "must be an RSA or ECDSA key")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the key cannot be encoded")
	}
	return der, nil
}
