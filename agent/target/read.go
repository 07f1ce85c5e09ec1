package target

import (
	"encoding/pem"
	"path/filepath"

	"github.com/certctl/certctl"
)

// maxChain bounds what is read of a chain's file.
const maxChain = 64 << 10

// Read returns the leaf and the chain that are current at a place.
func (t *Target) Read(name string, slot certctl.Slot) (leaf []byte, chain certctl.Chain, err error) {
	p := t.driver.layout().placeOf(name, slot)
	content, err := p.disk().ReadFile(filepath.Join(p.current(), fileFullchain))
	if err != nil {
		return nil, nil, unreadable(err, fileFullchain)
	}
	if len(content) > maxChain {
		return nil, nil, certctl.Errorf(certctl.Conflict, "%s has more than %d bytes", fileFullchain, maxChain)
	}
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if leaf == nil {
			leaf = block.Bytes
		} else {
			chain = append(chain, block.Bytes)
		}
	}
	if leaf == nil {
		return nil, nil, certctl.Errorf(certctl.Conflict, "%s holds no certificate", fileFullchain)
	}
	return leaf, chain, nil
}
