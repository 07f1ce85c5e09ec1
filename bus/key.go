package bus

import (
	"github.com/nats-io/nkeys"

	"github.com/certctl/certctl"
)

// NewUserKey makes a bus key: the one that logs in to the broker and does
// nothing else, since the broker chooses what it signs. seed is secret, public
// begins with "U".
func NewUserKey() (seed []byte, public string, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, "", certctl.Wrap(certctl.Internal, err, "making a bus key")
	}
	if seed, err = pair.Seed(); err != nil {
		return nil, "", certctl.Wrap(certctl.Internal, err, "encoding a bus key")
	}
	if public, err = pair.PublicKey(); err != nil {
		return nil, "", certctl.Wrap(certctl.Internal, err, "encoding a bus key")
	}
	return seed, public, nil
}

// SignNonce signs the broker's nonce with a bus key.
func SignNonce(seed, nonce []byte) ([]byte, error) {
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return nil, certctl.Errorf(certctl.Invalid, "this is not the seed of a bus key")
	}
	defer pair.Wipe()
	signature, err := pair.Sign(nonce)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "signing the broker's nonce")
	}
	return signature, nil
}
