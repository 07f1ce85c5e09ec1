// Package kek keeps secrets at rest: key-encryption keys, which live in files
// and never in the database or a backup, and what they seal.
//
// Each value is encrypted with a data key of its own (AES-256-GCM), and the data
// key with the key-encryption key. Both are bound to the table, row and column
// that the value stands in, so that whoever can write to the database cannot
// put one ciphertext in the place of another.
package kek

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/certctl/certctl"
)

// Names of the key-encryption keys, and which roles have them.
const (
	CA      = "ca"      // signer: CA, fleet, command and bus keys
	PKI     = "pki"     // signer and api: keys of OCSP responders
	Secrets = "secrets" // worker and signer: issuer and target secrets, imported keys
)

const (
	keySize  = 32
	idSize   = 8
	wrapSize = 12 + keySize + 16 // nonce, data key, tag
	version  = 1
)

// Key is one key-encryption key.
type Key struct {
	name string
	id   [idSize]byte // says which key sealed a value, without telling anything of it
	aead cipher.AEAD
	seed []byte // what other keys are derived from
}

// Place is where a sealed value stands.
type Place struct {
	Table  string
	Row    certctl.ID
	Column string
}

// Load reads a key from its file: 32 bytes in base64. With create, a missing
// file is made with a new key first. A file that others may read is refused; the
// group may read what another user gives to it, as Kubernetes does with Secrets.
func Load(name, path string, create bool) (*Key, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err := makeFile(path); err != nil {
			return nil, err
		}
		info, err = os.Stat(path)
	}
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the key-encryption key %s cannot be read from %s", name, path).
			WithRemedy("restore the file from where you keep it; for a new installation start once with --create-keks")
	}
	if others := info.Mode().Perm() & 0o077; others != 0 && (others != 0o040 || ownedByUs(info)) {
		return nil, certctl.Errorf(certctl.Invalid, "%s may be read by others than its owner", path).WithRemedy("chmod 600 %s", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the key-encryption key %s cannot be read from %s", name, path)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != keySize {
		return nil, certctl.Errorf(certctl.Invalid, "%s does not hold %d bytes in base64", path, keySize)
	}
	return New(name, raw)
}

// New returns the key of 32 random bytes.
func New(name string, raw []byte) (*Key, error) {
	id, err := hkdf.Key(sha256.New, raw, nil, "certctl/v1/kek-id/"+name, idSize)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "no key id can be derived")
	}
	wrapping, err := hkdf.Key(sha256.New, raw, nil, "certctl/v1/kek/"+name, keySize)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "no key can be derived")
	}
	aead, err := newAEAD(wrapping)
	if err != nil {
		return nil, err
	}
	seed, err := hkdf.Key(sha256.New, raw, nil, "certctl/v1/kek-derive/"+name, keySize)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "no key can be derived")
	}
	return &Key{name: name, id: [idSize]byte(id), aead: aead, seed: seed}, nil
}

// Derive returns another key that follows from this one, for a process that has
// this one anyhow. It tells nothing of this one.
func (k *Key) Derive(name string) (*Key, error) {
	raw, err := hkdf.Key(sha256.New, k.seed, nil, "certctl/v1/kek-derived/"+name, keySize)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "no key can be derived")
	}
	return New(name, raw)
}

func makeFile(path string) error {
	raw := make([]byte, keySize)
	_, _ = rand.Read(raw) // never fails
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the folder of %s cannot be made", path)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s cannot be made", path)
	}
	_, err = file.WriteString(base64.StdEncoding.EncodeToString(raw) + "\n")
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// ID names the key in check values.
func (k *Key) ID() []byte { return k.id[:] }

// Seal encrypts plaintext for its place. The result is: version, key id, wrapped
// data key, nonce and ciphertext.
func (k *Key) Seal(place Place, plaintext []byte) ([]byte, error) {
	data := make([]byte, keySize)
	_, _ = rand.Read(data)
	inner, err := newAEAD(data)
	if err != nil {
		return nil, err
	}
	bound := k.bound(place)
	out := append([]byte{version}, k.id[:]...)
	out = seal(k.aead, out, data, bound)
	return seal(inner, out, plaintext, bound), nil
}

// Open decrypts what Seal made for this place. Errors are Denied.
func (k *Key) Open(place Place, sealed []byte) ([]byte, error) {
	const header = 1 + idSize
	if len(sealed) < header+wrapSize+12+16 || sealed[0] != version {
		return nil, certctl.Errorf(certctl.Denied, "this is not a sealed value")
	}
	if [idSize]byte(sealed[1:header]) != k.id {
		return nil, certctl.Errorf(certctl.Denied, "this value was sealed with another key-encryption key than the %s key of this process", k.name).
			WithRemedy("start with the key file that was in use when the value was written")
	}
	bound := k.bound(place)
	data, err := open(k.aead, sealed[header:header+wrapSize], bound)
	if err != nil {
		return nil, certctl.Wrap(certctl.Denied, err, "this value does not belong where it stands, or has been changed")
	}
	inner, err := newAEAD(data)
	if err != nil {
		return nil, err
	}
	plaintext, err := open(inner, sealed[header+wrapSize:], bound)
	if err != nil {
		return nil, certctl.Wrap(certctl.Denied, err, "this value does not belong where it stands, or has been changed")
	}
	return plaintext, nil
}

// bound is the associated data: each part with its length before it.
func (k *Key) bound(place Place) []byte {
	var out []byte
	for _, part := range [][]byte{[]byte(place.Table), place.Row[:], []byte(place.Column), k.id[:]} {
		out = binary.BigEndian.AppendUint16(out, uint16(len(part))) //nolint:gosec // names of tables and columns
		out = append(out, part...)
	}
	return out
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "no cipher can be made")
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "no cipher can be made")
	}
	return aead, nil
}

func seal(aead cipher.AEAD, out, plaintext, bound []byte) []byte {
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce)
	return aead.Seal(append(out, nonce...), nonce, plaintext, bound)
}

func open(aead cipher.AEAD, sealed, bound []byte) ([]byte, error) {
	return aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], bound)
}
