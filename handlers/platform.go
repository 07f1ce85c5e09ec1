package handlers

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/bus"
)

// Sealer seals private keys at rest under one key-encryption key. What was
// sealed for one row and column does not open for another.
type Sealer interface {
	Seal(table string, row certctl.ID, column string, plaintext []byte) ([]byte, error)
	Open(table string, row certctl.ID, column string, sealed []byte) ([]byte, error)
}

// PlatformStore keeps the platform's own keys.
type PlatformStore interface {
	// LockedOnce runs once while no other process runs one of this name.
	LockedOnce(ctx context.Context, name string, once func(context.Context) error) error
	PlatformKeys(ctx context.Context, purpose string) ([]certctl.PlatformKey, error)
	AddPlatformKey(ctx context.Context, key certctl.PlatformKey) error
	Now(ctx context.Context) (time.Time, error)
}

// Platform is the opened set of the platform's own keys. Only the signer has it.
type Platform struct {
	Fleet       crypto.Signer        // pinned by agents for ever; signs trust and enrolments
	Command     crypto.Signer        // signs commands
	CommandKeys []certctl.CommandKey // what the trust document says of command keys
	Bus         *bus.Identity
}

// Life of a command key. A new one is made when less than half is left, so that
// an agent that was away for a year still knows the key that commands it, or
// learns it from a trust document.
const commandKeyLife = 400 * certctl.Day

// OpenPlatform opens the platform's keys, and makes what is missing: all of it
// at first start, and a command key in time before the last one ends. Replicas
// that start together make each key once.
func OpenPlatform(ctx context.Context, store PlatformStore, sealer Sealer) (*Platform, error) {
	p := &Platform{}
	err := store.LockedOnce(ctx, "platform-keys", func(ctx context.Context) error {
		now, err := store.Now(ctx)
		if err != nil {
			return err
		}
		keys := platformKeys{store: store, sealer: sealer, now: now}
		if p.Fleet, err = keys.fleet(ctx); err != nil {
			return err
		}
		if p.Bus, err = keys.bus(ctx); err != nil {
			return err
		}
		p.Command, p.CommandKeys, err = keys.command(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// platformKeys opens or makes keys of each purpose at one moment.
type platformKeys struct {
	store  PlatformStore
	sealer Sealer
	now    time.Time
}

func (k platformKeys) fleet(ctx context.Context) (crypto.Signer, error) {
	keys, err := k.store.PlatformKeys(ctx, certctl.KeyPurposeFleet)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		signer, _, err := k.makeSigner(ctx, certctl.KeyPurposeFleet, time.Time{})
		return signer, err
	}
	return k.openSigner(keys[0])
}

func (k platformKeys) bus(ctx context.Context) (*bus.Identity, error) {
	keys, err := k.store.PlatformKeys(ctx, certctl.KeyPurposeBus)
	if err != nil {
		return nil, err
	}
	if len(keys) > 0 {
		seeds, err := k.open(keys[0])
		if err != nil {
			return nil, err
		}
		return bus.ParseIdentity(seeds)
	}
	identity, err := bus.NewIdentity(k.now)
	if err != nil {
		return nil, err
	}
	seeds, err := identity.MarshalBinary()
	if err != nil {
		return nil, err
	}
	_, err = k.add(ctx, certctl.KeyPurposeBus, []byte(identity.Operator()), seeds, time.Time{})
	return identity, err
}

// command returns the newest command key and what agents may know of all that
// have not ended.
func (k platformKeys) command(ctx context.Context) (crypto.Signer, []certctl.CommandKey, error) {
	keys, err := k.store.PlatformKeys(ctx, certctl.KeyPurposeCommand)
	if err != nil {
		return nil, nil, err
	}
	keys = slices.DeleteFunc(keys, func(key certctl.PlatformKey) bool { return !key.NotAfter.After(k.now) })
	slices.SortFunc(keys, func(a, b certctl.PlatformKey) int { return a.NotBefore.Compare(b.NotBefore) })
	var newest crypto.Signer
	if len(keys) > 0 && keys[len(keys)-1].NotAfter.Sub(k.now) > commandKeyLife/2 {
		if newest, err = k.openSigner(keys[len(keys)-1]); err != nil {
			return nil, nil, err
		}
	} else {
		var made certctl.PlatformKey
		newest, made, err = k.makeSigner(ctx, certctl.KeyPurposeCommand, k.now.Add(commandKeyLife))
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, made)
	}
	public := make([]certctl.CommandKey, len(keys))
	for i, key := range keys {
		public[i] = certctl.CommandKey{Public: key.Public, NotBefore: key.NotBefore, NotAfter: key.NotAfter}
	}
	return newest, public, nil
}

// commandKeySlack back-dates a command key, for nodes whose clocks are behind.
const commandKeySlack = certctl.Day

func (k platformKeys) makeSigner(ctx context.Context, purpose string, notAfter time.Time) (crypto.Signer, certctl.PlatformKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, certctl.PlatformKey{}, certctl.Wrap(certctl.Internal, err, "no %s key can be made", purpose)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, certctl.PlatformKey{}, certctl.Wrap(certctl.Internal, err, "the %s key cannot be encoded", purpose)
	}
	key, err := k.add(ctx, purpose, public, encoded, notAfter)
	return private, key, err
}

func (k platformKeys) add(ctx context.Context, purpose string, public, private []byte, notAfter time.Time) (certctl.PlatformKey, error) {
	key := certctl.PlatformKey{
		ID: certctl.NewID(k.now), Purpose: purpose, Public: public,
		NotBefore: k.now.Add(-commandKeySlack).Truncate(time.Second), NotAfter: notAfter.Truncate(time.Second),
	}
	var err error
	if key.Sealed, err = k.sealer.Seal("platform_key", key.ID, "sealed", private); err != nil {
		return key, err
	}
	return key, k.store.AddPlatformKey(ctx, key)
}

func (k platformKeys) open(key certctl.PlatformKey) ([]byte, error) {
	return k.sealer.Open("platform_key", key.ID, "sealed", key.Sealed)
}

func (k platformKeys) openSigner(key certctl.PlatformKey) (crypto.Signer, error) {
	encoded, err := k.open(key)
	if err != nil {
		return nil, err
	}
	private, err := x509.ParsePKCS8PrivateKey(encoded)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the %s key cannot be read", key.Purpose)
	}
	signer, ok := private.(ed25519.PrivateKey)
	if !ok || !signer.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(key.Public)) {
		return nil, certctl.Errorf(certctl.Internal, "the %s key in the database does not match its public part", key.Purpose)
	}
	return signer, nil
}
