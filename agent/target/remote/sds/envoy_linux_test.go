package sds_test

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/targettest"
)

// What Envoy looks for in a watched directory is a file that is moved into it: a switch
// is one, and the same again is none.
func TestSwitchIsAMoveInTheWatchedDirectory(t *testing.T) {
	t.Parallel()
	directory := filepath.Join(t.TempDir(), "tls")
	spec := specOf(t, map[string]any{"directory": directory, "listen": []string{}})
	spec.Kind = "envoy"
	opened, err := target.Kinds().Open(spec, target.Env{Policy: anything{}, Now: time.Now})
	must(t, err)
	next := targettest.Installs(t, "shop", "shop.example.com")
	apply := func(install target.Install) {
		t.Helper()
		if r := opened.Apply(t.Context(), []target.Install{install})[0]; r.Outcome != certctl.OutcomeInstalled || r.VerifiedBy != "installed" {
			t.Fatalf("receipt %+v", r)
		}
	}
	apply(next())
	watch, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	must(t, err)
	defer syscall.Close(watch)
	_, err = syscall.InotifyAddWatch(watch, filepath.Join(directory, "shop"), syscall.IN_MOVED_TO)
	must(t, err)
	moves := func() int {
		t.Helper()
		events := make([]byte, 64<<10)
		n, err := syscall.Read(watch, events)
		if errors.Is(err, syscall.EAGAIN) {
			return 0
		}
		must(t, err)
		return strings.Count(string(events[:n]), "current\x00")
	}
	second := next()
	apply(second)
	secret, err := readSecret(filepath.Join(directory, "shop", "current", "sds.json"))
	must(t, err)
	fullchain, key, err := target.PEM(second)
	must(t, err)
	if got := secret.GetTlsCertificate(); secret.GetName() != "shop" || got.GetCertificateChain().GetInlineString() != string(fullchain) || got.GetPrivateKey().GetInlineString() != string(key) {
		t.Errorf("secret %q", secret.GetName())
	}
	if n := moves(); n != 1 {
		t.Errorf("%d moves for one switch", n)
	}
	apply(second)
	if n := moves(); n != 0 {
		t.Errorf("%d moves for the same again", n)
	}
}
