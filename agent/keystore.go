package agent

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/certctl/certctl"
)

// KeyStore holds the private keys of leaves as PKCS#8 files, 0600, each named
// after the SHA-256 of its public key. Which of them are still needed is the
// journal's knowledge; see Agent.tidy.
//
// Its methods must not run beside Retain; Agent.keysInUse sees to that.
type KeyStore struct{ dir string }

// openKeyStore makes the folder if need be.
func openKeyStore(dir string) (*KeyStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "the folder for keys cannot be made")
	}
	return &KeyStore{dir: dir}, nil
}

// Put stores a key durably and returns its name. A key that is there stays.
func (s *KeyStore) Put(key crypto.Signer) (certctl.Digest, error) {
	spki, err := certctl.SPKIHash(key.Public())
	if err != nil {
		return spki, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return spki, certctl.Wrap(certctl.Internal, err, "the key cannot be encoded")
	}
	content := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := writeDurable(s.path(spki), content); err != nil {
		return spki, certctl.Wrap(certctl.Internal, err, "the key cannot be stored")
	}
	return spki, nil
}

// Get returns a key; NotFound when the node does not have it.
func (s *KeyStore) Get(spki certctl.Digest) (crypto.Signer, error) {
	content, err := os.ReadFile(s.path(spki))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, certctl.Errorf(certctl.NotFound, "this node does not have the private key %s", spki)
	}
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "a key cannot be read")
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, certctl.Errorf(certctl.Internal, "the file of key %s is damaged", spki)
	}
	return parseKey(block.Bytes, spki)
}

// parseKey reads a PKCS#8 key and proves that it is the one with the name.
func parseKey(der []byte, spki certctl.Digest) (crypto.Signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "key %s is not in PKCS#8 form", spki)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, certctl.Errorf(certctl.Invalid, "key %s cannot sign", spki)
	}
	if got, err := certctl.SPKIHash(key.Public()); err != nil || got != spki {
		return nil, certctl.Errorf(certctl.Invalid, "key %s is another one than its name says", spki)
	}
	return key, nil
}

// Retain erases every key that keep does not want and returns how many.
func (s *KeyStore) Retain(keep func(certctl.Digest) bool) (int, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, certctl.Wrap(certctl.Internal, err, "the folder for keys cannot be read")
	}
	erased := 0
	for _, entry := range entries {
		name, isKey := strings.CutSuffix(entry.Name(), ".pem")
		var spki certctl.Digest
		// What is left of a write that was cut off has a key in it, too.
		unfinished := strings.HasPrefix(name, ".")
		if !unfinished && (!isKey || spki.UnmarshalText([]byte(name)) != nil || keep(spki)) {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, entry.Name())); err != nil {
			return erased, certctl.Wrap(certctl.Internal, err, "a key cannot be erased")
		}
		erased++
	}
	if erased == 0 {
		return 0, nil
	}
	return erased, syncDirectory(s.dir)
}

// Erase removes a key; one that is not there is erased.
func (s *KeyStore) Erase(spki certctl.Digest) error {
	err := os.Remove(s.path(spki))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDirectory(s.dir)
	}
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "a key cannot be erased")
	}
	return nil
}

func (s *KeyStore) path(spki certctl.Digest) string {
	return filepath.Join(s.dir, spki.String()+".pem")
}
