package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/certctl/certctl"
)

// adminKey is the first admin's API key on its way into its file.
type adminKey struct {
	path string // where it belongs
	text string
}

func newAdminKey(path string) *adminKey {
	return &adminKey{path: path, text: certctl.NewSecret(certctl.APIKeyPrefix)}
}

func (k *adminKey) staged() string       { return k.path + ".new" }
func (k *adminKey) hash() certctl.Digest { return certctl.DigestOf([]byte(k.text)) }
func (k *adminKey) prefix() string       { return certctl.ShownSecret(k.text) }

// stage writes the key beside its place. A key that is there, or that an earlier
// start staged, is used again: the database may hold it already.
func (k *adminKey) stage() error {
	if k.reuse(k.path) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(k.path), 0o711); err != nil { //nolint:gosec // others may pass, not look
		return certctl.Wrap(certctl.Invalid, err, "the folder of %s cannot be made", k.path)
	}
	if k.reuse(k.staged()) {
		return nil
	}
	if err := os.WriteFile(k.staged(), []byte(k.text+"\n"), 0o600); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "the admin key cannot be written to %s", k.staged())
	}
	return nil
}

// reuse takes the key of a file, if there is one in it.
func (k *adminKey) reuse(path string) bool {
	old, err := os.ReadFile(path)
	text := strings.TrimSpace(string(old))
	if err != nil || len(text) != len(k.text) {
		return false
	}
	k.text = text
	return true
}

// settle puts a staged key where it belongs when the database knows it, and
// takes it away otherwise. It is an error only where a valid key would be lost.
func (k *adminKey) settle(valid bool) error {
	_, err := os.Stat(k.staged())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case valid:
		if err := os.Rename(k.staged(), k.path); err != nil {
			return certctl.Wrap(certctl.Invalid, err, "the admin key is in %s and cannot be moved to %s", k.staged(), k.path)
		}
		return nil
	}
	if err := os.Remove(k.staged()); err != nil {
		return certctl.Wrap(certctl.Invalid, err, "%s cannot be removed", k.staged())
	}
	return nil
}
