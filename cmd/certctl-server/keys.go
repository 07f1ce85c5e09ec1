package main

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/kek"
	"github.com/certctl/certctl/store"
)

// sealer is one key-encryption key as the handlers use it.
type sealer struct{ key *kek.Key }

func (s sealer) Seal(table string, row certctl.ID, column string, plaintext []byte) ([]byte, error) {
	return s.key.Seal(kek.Place{Table: table, Row: row, Column: column}, plaintext)
}

func (s sealer) Open(table string, row certctl.ID, column string, sealed []byte) ([]byte, error) {
	return s.key.Open(kek.Place{Table: table, Row: row, Column: column}, sealed)
}

// keyring is the key-encryption keys that the roles of this process need.
type keyring struct {
	ca      sealer // with role signer
	secrets sealer // with role worker, signer or api
}

func loadKeys(c *Config) (keyring, error) {
	var ring keyring
	if c.has(roleSigner) {
		key, err := kek.Load(kek.CA, c.KEKCA, c.CreateKEKs)
		if err != nil {
			return ring, err
		}
		ring.ca = sealer{key}
	}
	key, err := kek.Load(kek.Secrets, c.KEKSecrets, c.CreateKEKs)
	if err != nil {
		return ring, err
	}
	ring.secrets = sealer{key}
	return ring, nil
}

// checkText is what a key-encryption key must be able to open again.
const checkText = "certctl/v1"

// checkKeys stops a start with another key than the one that the installation's
// secrets were sealed with.
func checkKeys(ctx context.Context, st *store.Store, c *Config, ring keyring) error {
	check := func(name string, s sealer) error {
		purpose := certctl.KeyPurposeCheck + "-" + name
		return st.LockedOnce(ctx, purpose, func(ctx context.Context) error {
			keys, err := st.PlatformKeys(ctx, purpose)
			if err != nil {
				return err
			}
			if len(keys) > 0 {
				_, err := s.Open("platform_key", keys[0].ID, "sealed", keys[0].Sealed)
				return err
			}
			now, err := st.Now(ctx)
			if err != nil {
				return err
			}
			key := certctl.PlatformKey{ID: certctl.NewID(now), Purpose: purpose, Public: s.key.ID(), NotBefore: now}
			if key.Sealed, err = s.Seal("platform_key", key.ID, "sealed", []byte(checkText)); err != nil {
				return err
			}
			return st.AddPlatformKey(ctx, key)
		})
	}
	if c.has(roleSigner) {
		if err := check(kek.CA, ring.ca); err != nil {
			return err
		}
	}
	return check(kek.Secrets, ring.secrets)
}
