package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"

	"github.com/certctl/certctl"
)

// Identity is who this node is, and the fleet key that it believes for ever.
// It is written once, by Enrol.
type Identity struct {
	Installation  certctl.ID     `json:"installation"`
	Agent         certctl.ID     `json:"agent"`
	Name          string         `json:"name"`
	Server        string         `json:"server"` // the API's URL at enrolment; later ones are in the trust document
	MachineID     string         `json:"machine_id"`
	CAFingerprint certctl.Digest `json:"ca_fingerprint"`
	FleetKey      []byte         `json:"fleet_key"`
}

// LoadIdentity reads the identity from the state directory. Without one the
// error is NotFound and says how to enrol.
func LoadIdentity(dir string) (Identity, error) {
	var id Identity
	err := loadJSON(filepath.Join(dir, "identity.json"), &id)
	if certctl.ErrorCode(err) == certctl.NotFound {
		return id, certctl.Errorf(certctl.NotFound, "this node is not enrolled: %s holds no identity", dir).
			WithRemedy("run this program with enroll and a join token")
	}
	if err == nil && len(id.FleetKey) != ed25519.PublicKeySize {
		return id, certctl.Errorf(certctl.Invalid, "the fleet key in %s is damaged", dir)
	}
	return id, err
}

// nodeKeys are the private halves of certctl.AgentKeys.
type nodeKeys struct {
	BusPublic string `json:"bus_public"`
	BusSeed   []byte `json:"bus_seed"`
	Signing   []byte `json:"signing_seed"` // Ed25519 seed, RFC 8032
	Sealing   []byte `json:"sealing"`      // HPKE serialised private key
}

func (k nodeKeys) signer() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.Signing) }

func (k nodeKeys) public() (certctl.AgentKeys, error) {
	sealing, err := certctl.SealingPublicKey(k.Sealing)
	if err != nil {
		return certctl.AgentKeys{}, err
	}
	signing, _ := k.signer().Public().(ed25519.PublicKey)
	return certctl.AgentKeys{Bus: k.BusPublic, Signing: signing, Sealing: sealing}, nil
}

func nodeKeysPath(dir string) string { return filepath.Join(dir, "node-keys.json") }

// loadNodeKeys reads the node's keys; NotFound when there are none.
func loadNodeKeys(dir string) (nodeKeys, error) {
	var keys nodeKeys
	if err := loadJSON(nodeKeysPath(dir), &keys); err != nil {
		return keys, err
	}
	if len(keys.Signing) != ed25519.SeedSize || keys.BusPublic == "" || len(keys.BusSeed) == 0 || len(keys.Sealing) == 0 {
		return keys, certctl.Errorf(certctl.Invalid, "%s is damaged", nodeKeysPath(dir))
	}
	return keys, nil
}

// ensureNodeKeys returns the keys of the state directory and makes them when
// there are none. They are on disk before anybody hears of them, so that an
// enrolment that was cut off is repeated with the same keys.
func ensureNodeKeys(dir string, newBusKey func() (seed []byte, public string, err error)) (nodeKeys, error) {
	keys, err := loadNodeKeys(dir)
	if certctl.ErrorCode(err) != certctl.NotFound {
		return keys, err
	}
	if keys.BusSeed, keys.BusPublic, err = newBusKey(); err != nil {
		return keys, certctl.Wrap(certctl.Internal, err, "a bus key cannot be made")
	}
	_, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return keys, certctl.Wrap(certctl.Internal, err, "a signing key cannot be made")
	}
	keys.Signing = signing.Seed()
	if keys.Sealing, _, err = certctl.NewSealingKey(); err != nil {
		return keys, err
	}
	return keys, saveJSON(nodeKeysPath(dir), keys)
}

// makeStateDirectory makes dir, or refuses one that others may write to.
func makeStateDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the state directory cannot be made")
	}
	info, err := os.Stat(dir)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the state directory cannot be read")
	}
	if info.Mode().Perm()&0o022 != 0 {
		return certctl.Errorf(certctl.Invalid, "%s may be written to by others (mode %#o): it holds private keys", dir, info.Mode().Perm()).
			WithRemedy("chmod 0700 %s", dir)
	}
	return nil
}
