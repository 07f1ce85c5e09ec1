package target

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/certctl/certctl"
)

// Inspect holds the files of a place against what was installed there: the leaf
// by its fingerprint, the key by its public half, and the chain by the leaf that
// it begins with. The error says how they differ; Unavailable is that of a host
// that cannot be asked.
func (t *Target) Inspect(name string, slot certctl.Slot, fingerprint, spki certctl.Digest) error {
	p := t.driver.layout().placeOf(name, slot)
	n, err := p.number()
	var facts certctl.Leaf
	if err == nil && n > 0 {
		facts, err = p.leaf(n)
	}
	switch {
	case certctl.ErrorCode(err) == certctl.Unavailable:
		return err
	case err != nil && n == 0:
		return certctl.Wrap(certctl.Conflict, err, "the link %s cannot be read", p.current())
	case n == 0:
		return certctl.Errorf(certctl.Conflict, "the link %s is gone", p.current())
	case err != nil || facts.Fingerprint != fingerprint:
		return certctl.Errorf(certctl.Conflict, "%s is not the certificate that was installed", filepath.Join(p.current(), fileCert))
	}
	if p.layout.links != "" {
		if to, err := p.disk().ReadLink(p.link()); err != nil || to != p.linkTo(n) {
			return certctl.Errorf(certctl.Conflict, "the link %s is gone, or leads elsewhere", p.link())
		}
	}
	return p.inspectPair(spki)
}

// inspectPair looks at what daemons read.
func (p place) inspectPair(spki certctl.Digest) error {
	chain, err := p.disk().ReadFile(filepath.Join(p.current(), fileFullchain))
	if err != nil {
		return unreadable(err, fileFullchain)
	}
	leaf, err := p.disk().ReadFile(filepath.Join(p.current(), fileCert))
	if err != nil {
		return unreadable(err, fileCert)
	}
	key, err := p.disk().ReadFile(filepath.Join(p.current(), fileKey))
	if err != nil {
		return unreadable(err, fileKey)
	}
	if err := p.checkMode(filepath.Join(p.current(), fileKey), file{name: fileKey, secret: true}); err != nil {
		return err
	}
	if !bytes.HasPrefix(chain, leaf) {
		return certctl.Errorf(certctl.Conflict, "%s does not begin with the certificate", fileFullchain)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return certctl.Wrap(certctl.Conflict, err, "%s and %s do not belong together", fileFullchain, fileKey)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return certctl.Errorf(certctl.Conflict, "%s holds no key that can sign", fileKey)
	}
	if have, err := certctl.SPKIHash(signer.Public()); err != nil || have != spki {
		return certctl.Errorf(certctl.Conflict, "%s is another key", fileKey)
	}
	return nil
}

func unreadable(err error, name string) error {
	if certctl.ErrorCode(err) == certctl.Unavailable {
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return certctl.Errorf(certctl.Conflict, "%s is gone", name)
	}
	return certctl.Wrap(certctl.Conflict, err, "%s cannot be read", name)
}
