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

// PEM is an installation's bundle: key and chain in one text.
func PEM(t *testing.T, install target.Install) string {
	t.Helper()
	fullchain, key, err := target.PEM(install)
	if err != nil {
		t.Fatal(err)
	}
	return string(key) + string(fullchain)
}
