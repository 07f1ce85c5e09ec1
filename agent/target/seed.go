package target

import (
	"crypto"
	"errors"
	"time"

	"github.com/certctl/certctl"
)

// Seed makes what a daemon serves already the first generation of a place, so that
// its configuration can name the place's files before anything is installed there,
// and so that there is something to go back to. It refuses what CheckSeed does,
// reloads nothing, and leaves a place alone that has a generation. With links, the link takes the place of the
// file that has its name. It reports whether it has made anything.
func (t *Target) Seed(name string, slot certctl.Slot, leaf []byte, chain certctl.Chain, key crypto.Signer) (made bool, err error) {
	if err := certctl.CheckPlace(name); err != nil {
		return false, err
	}
	install, err := installOf(certctl.TestPlace{Certificate: name, Place: name, Slot: slot}, leaf, chain, key)
	if err != nil {
		return false, err
	}
	unlock, err := t.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	p := t.driver.layout().placeOf(name, slot)
	if n, err := p.number(); err != nil || n > 0 {
		if err == nil && p.links != "" && p.fingerprint(n) == install.Command.Fingerprint {
			err = p.switchTo(n) // who was stopped between the two links has left the second one out
		}
		return false, err
	}
	parsed, err := checkPair(install, t.env.Now())
	if err != nil {
		return false, err
	}
	n, err := p.newest()
	if err != nil {
		return false, err
	}
	files, err := render(t.driver, material{install: install, place: p, leaf: parsed}, n+1)
	if err != nil {
		return false, err
	}
	return true, errors.Join(p.write(n+1, files), p.switchTo(n+1))
}

// CheckSeed says why a certificate, with its chain and key, could not be installed and
// is no first generation therefore: it has ended, or its chain does not fit it.
func CheckSeed(leaf []byte, chain certctl.Chain, key crypto.Signer, now time.Time) error {
	install, err := installOf(certctl.TestPlace{}, leaf, chain, key)
	if err == nil {
		_, err = checkPair(install, now)
	}
	return err
}

// ServerNames are the names for which an installation of a certificate is proven.
func ServerNames(n certctl.Names) []string { return serverNames(n) }
