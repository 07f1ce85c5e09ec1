package targettest

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// IsNotServed installs on a daemon that serves something else than what it is
// given, and proves that this is no success.
func IsNotServed(t *testing.T, d *Daemon) {
	t.Helper()
	s := newSuite(t, d)
	r := s.apply(s.next())[0]
	if r.Outcome == certctl.OutcomeVerified || r.Outcome == certctl.OutcomeInstalled || r.Code != "not_served" {
		t.Errorf("receipt %+v", r)
	}
}

// Install installs a first certificate at the place "shop", with a chain of its
// issuer, and returns how that ended.
func Install(t *testing.T, d *Daemon) certctl.Receipt {
	t.Helper()
	s := newSuite(t, d)
	install := s.next()
	install.Command.Chain = certctl.Chain{s.authority.certificate.Raw}
	return s.apply(install)[0]
}

// Installs returns what makes installations at a place: each of a new leaf with a
// new key, of one CA, with its chain.
func Installs(t *testing.T, place string, names ...string) func() target.Install {
	t.Helper()
	a, binding := newAuthority(t), certctl.NewID(time.Now())
	return func() target.Install {
		t.Helper()
		install := a.install(t, binding, place, names...)
		install.Command.Chain = certctl.Chain{a.certificate.Raw}
		return install
	}
}

// Pairs returns what makes a pair of installations at a place: of one CA, and of new
// keys, the first in the slot rsa and the second in the slot ecdsa.
func Pairs(t *testing.T, place string, names ...string) func() []target.Install {
	t.Helper()
	a, bindings := newAuthority(t), []certctl.ID{certctl.NewID(time.Now()), certctl.NewID(time.Now())}
	return func() []target.Install {
		t.Helper()
		pair := []target.Install{a.installKey(t, newRSAKey(t), bindings[0], place, names...), a.install(t, bindings[1], place, names...)}
		for i, slot := range []certctl.Slot{certctl.SlotRSA, certctl.SlotECDSA} {
			pair[i].Command.Slot, pair[i].Command.Chain = slot, certctl.Chain{a.certificate.Raw}
		}
		return pair
	}
}

// PEM is an installation's bundle: key and chain in one text.
func PEM(t *testing.T, install target.Install) string {
	t.Helper()
	fullchain, key, err := target.PEM(install)
	if err != nil {
		t.Fatal(err)
	}
	return string(key) + string(fullchain)
}
