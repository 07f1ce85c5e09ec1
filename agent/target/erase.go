package target

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/certctl/certctl"
)

// Erase removes the earlier generations of a place that hold a key, and whatever
// of it was left half written. Where the current generation holds it nothing is
// removed, and the error is a Conflict.
func (t *Target) Erase(name string, slot certctl.Slot, spki certctl.Digest) error {
	if err := certctl.CheckPlace(name); err != nil {
		return err
	}
	unlock, err := t.lock()
	if err != nil {
		return err
	}
	defer unlock()
	p := t.driver.layout().placeOf(name, slot)
	current, err := p.number()
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the link %s cannot be read", p.current())
	}
	if holds, readable := p.holds(strconv.Itoa(current), spki); current > 0 && (holds || !readable) {
		return certctl.Errorf(certctl.Conflict, "%s serves this key", p.current())
	}
	if err := p.eraseGenerations(strconv.Itoa(current), spki); err != nil {
		return certctl.Wrap(certctl.Internal, err, "an earlier generation in %s cannot be removed", p.path)
	}
	return nil
}

// eraseGenerations removes every generation but the current one that holds the
// key, or of which that cannot be told.
func (p place) eraseGenerations(current string, spki certctl.Digest) error {
	dir := filepath.Join(p.path, dirGeneration)
	names, err := p.disk().ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == current {
			continue
		}
		if holds, readable := p.holds(name, spki); holds || !readable {
			err = errors.Join(err, p.disk().RemoveAll(filepath.Join(dir, name)))
		}
	}
	return errors.Join(err, p.disk().Sync(dir))
}

// holds reports whether a generation's leaf is for a key, and whether it can be
// read at all.
func (p place) holds(generation string, spki certctl.Digest) (holds, readable bool) {
	content, err := p.disk().ReadFile(filepath.Join(p.path, dirGeneration, generation, fileCert))
	if err != nil {
		return false, false
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return false, false
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	return err == nil && certctl.DigestOf(leaf.RawSubjectPublicKeyInfo) == spki, err == nil
}
