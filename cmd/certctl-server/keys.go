package main

import (
	"bytes"
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
	pki     sealer // with role signer or api
	derived sealer // the pki key that follows from the ca key, with role signer
	secrets sealer // with role worker, signer or api
}

func loadKeys(c *Config) (keyring, error) {
	var ring keyring
	if c.has(roleSigner) {
		key, err := kek.Load(kek.CA, c.KEKCA, c.CreateKEKs)
		if err != nil {
			return ring, err
		}
		derived, err := key.Derive(kek.PKI)
		if err != nil {
			return ring, err
		}
		ring.ca, ring.pki, ring.derived = sealer{key}, sealer{derived}, sealer{derived}
	}
	if c.KEKPKI != "" && (c.has(roleSigner) || c.has(roleAPI)) {
		key, err := kek.Load(kek.PKI, c.KEKPKI, c.CreateKEKs)
		if err != nil {
			return ring, err
		}
		ring.pki = sealer{key}
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
	if c.has(roleSigner) {
		if err := checkKey(ctx, st, kek.CA, ring.ca, nil); err != nil {
			return err
		}
	}
	if c.has(roleSigner) || c.has(roleAPI) {
		if err := checkKey(ctx, st, kek.PKI, ring.pki, ring.derived.key); err != nil {
			return err
		}
	}
	return checkKey(ctx, st, kek.Secrets, ring.secrets, nil)
}

// checkKey opens what the newest check value holds, or writes the first. A key
// may take the place of former: what that one sealed is made anew.
func checkKey(ctx context.Context, st *store.Store, name string, s sealer, former *kek.Key) error {
	purpose := certctl.KeyPurposeCheck + "-" + name
	return st.LockedOnce(ctx, purpose, func(ctx context.Context) error {
		keys, err := st.PlatformKeys(ctx, purpose)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			newest := keys[len(keys)-1]
			_, err := s.Open("platform_key", newest.ID, "sealed", newest.Sealed)
			if err == nil || former == nil || !bytes.Equal(newest.Public, former.ID()) {
				return err
			}
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
