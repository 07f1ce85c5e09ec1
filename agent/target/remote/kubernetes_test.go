//go:build kubernetes

package remote_test

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote"
	"github.com/certctl/certctl/agent/target/targettest"
)

const (
	secretName = "shop"
	secretHost = "shop.example.com"
)

// allVerbs are what the documentation says that a proxy needs.
var allVerbs = []string{"get", "create", "update", "delete"}

// One API server serves all tests, each in a namespace of its own.
func TestKubernetesSecret(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	for name, test := range map[string]func(*kubeSuite){
		"installs and renews":          (*kubeSuite).installsAndRenews,
		"leaves what others have made": (*kubeSuite).leavesOthers,
		"adopts when it is told to":    (*kubeSuite).adopts,
		"proves what is served":        (*kubeSuite).provesWhatIsServed,
		"puts back what was":           (*kubeSuite).putsBack,
		"recovers from a crash":        (*kubeSuite).recovers,
		"looks again when others came": (*kubeSuite).looksAgain,
		"refuses what does not fit":    (*kubeSuite).refuses,
		"removes only its own":         (*kubeSuite).removes,
		"tells what others changed":    (*kubeSuite).inspects,
		"erases nothing in service":    (*kubeSuite).erases,
		"says which right is missing":  (*kubeSuite).needsRights,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(&kubeSuite{
				namespace: c.namespace(t, allVerbs...), next: targettest.Installs(t, secretName, secretHost), state: filepath.Join(t.TempDir(), "targets"),
			})
		})
	}
}

type kubeSuite struct {
	*namespace
	next  func() target.Install
	state string
}

// open opens the target as a new process would.
func (s *kubeSuite) open(settings object, fault func(string)) target.Opened {
	s.Helper()
	opened, err := remote.Kinds().Open(s.spec(settings), target.Env{Policy: anything{}, Now: time.Now, StateDir: s.state, Fault: fault})
	must(s.T, err)
	return opened
}

func (s *kubeSuite) apply(settings object, install target.Install) certctl.Receipt {
	s.Helper()
	return s.open(settings, nil).Apply(s.Context(), []target.Install{install})[0]
}

// holds proves that the Secret has the leaf with its key, and that no other key
// is left on the node.
func (s *kubeSuite) holds(install target.Install) secret {
	s.Helper()
	have := s.get(secretName)
	pair, err := tls.X509KeyPair(have.Data["tls.crt"], have.Data["tls.key"])
	must(s.T, err)
	if got := certctl.DigestOf(pair.Certificate[0]); got != install.Command.Fingerprint || len(pair.Certificate) != 2 || have.Type != "kubernetes.io/tls" {
		s.Errorf("%s of %d certificates, type %s; want %s", got, len(pair.Certificate), have.Type, install.Command.Fingerprint)
	}
	if notes, err := filepath.Glob(filepath.Join(s.state, "*.json")); err != nil || len(notes) > 0 {
		s.Errorf("still noted: %v, %v", notes, err)
	}
	return have
}

func (s *kubeSuite) installed(install target.Install, r certctl.Receipt, by string) secret {
	s.Helper()
	if r.VerifiedBy != by || r.Fingerprint != install.Command.Fingerprint || r.Code != "" {
		s.Fatalf("receipt %+v", r)
	}
	return s.holds(install)
}

func (s *kubeSuite) installsAndRenews() {
	first, second := s.next(), s.next()
	have := s.installed(first, s.apply(nil, first), "loaded")
	if have.Metadata.Labels["certctl-managed"] != "true" || have.Metadata.Annotations["certctl-target"] != "shop" || have.Data["ca.crt"] != nil {
		s.Errorf("%+v", have)
	}
	if again := s.installed(first, s.apply(nil, first), "loaded"); again.Metadata.ResourceVersion != have.Metadata.ResourceVersion {
		s.Error("the same version was written twice")
	}
	// What others add stays.
	have.Data["note"], have.Metadata.Labels["team"] = []byte("theirs"), "shop"
	s.put(have)
	have = s.installed(second, s.apply(object{"ca": true}, second), "loaded")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: second.Command.Chain[0]})
	if string(have.Data["note"]) != "theirs" || have.Metadata.Labels["team"] != "shop" || string(have.Data["ca.crt"]) != string(root) {
		s.Errorf("%+v", have)
	}
	leaf, chain, err := s.open(nil, nil).Read(secretName, certctl.SlotDefault)
	if err != nil || certctl.DigestOf(leaf) != second.Command.Fingerprint || len(chain) != 1 {
		s.Errorf("%d certificates, %v", len(chain), err)
	}
}

// foreign makes a Secret that nobody knows of.
func (s *kubeSuite) foreign(kind string) {
	s.Helper()
	must(s.T, s.call(http.MethodPost, s.path(), object{
		"metadata": object{"name": secretName, "labels": object{"by": "hand"}}, "type": kind,
		"data": object{"tls.crt": []byte("x"), "tls.key": []byte("y"), "z": []byte("z")},
	}, nil))
}

func (s *kubeSuite) leavesOthers() {
	s.foreign("kubernetes.io/tls")
	if r := s.apply(nil, s.next()); r.Outcome != certctl.OutcomeFailed || r.Code != "not_ours" || !strings.Contains(r.Remedy, "adopt") {
		s.Errorf("receipt %+v", r)
	}
	if have := s.get(secretName); string(have.Data["tls.key"]) != "y" || len(have.Metadata.Annotations) > 0 {
		s.Errorf("%+v", have)
	}
}

func (s *kubeSuite) adopts() {
	s.foreign("kubernetes.io/tls")
	install := s.next()
	have := s.installed(install, s.apply(object{"adopt": true}, install), "loaded")
	if string(have.Data["z"]) != "z" || have.Metadata.Labels["by"] != "hand" {
		s.Errorf("%+v", have)
	}
	// From then on it is this target's.
	next := s.next()
	s.installed(next, s.apply(nil, next), "loaded")
	must(s.T, s.call(http.MethodDelete, s.path()+"/"+secretName, nil, nil))
	s.foreign("Opaque") // whose type nobody can change
	if r := s.apply(object{"adopt": true}, s.next()); r.Code != "not_ours" || !strings.Contains(r.Remedy, "delete it") {
		s.Errorf("receipt %+v", r)
	}
}

func (s *kubeSuite) provesWhatIsServed() {
	var stuck atomic.Bool
	settings := object{"listen": []string{s.serve(secretName, &stuck)}, "wait_seconds": 30}
	for range 3 {
		install := s.next()
		r := s.apply(settings, install)
		s.installed(install, r, "probe")
		if r.Outcome != certctl.OutcomeVerified || len(r.Served) != 1 {
			s.Errorf("receipt %+v", r)
		}
	}
}

func (s *kubeSuite) putsBack() {
	var stuck atomic.Bool
	address := s.serve(secretName, &stuck)
	first := s.next()
	before := s.installed(first, s.apply(object{"listen": []string{address}}, first), "probe")
	stuck.Store(true)
	short := object{"listen": []string{address}, "wait_seconds": 1}
	if r := s.apply(short, s.next()); r.Outcome != certctl.OutcomeRolledBack || r.Code != "not_served" || r.Fingerprint != first.Command.Fingerprint {
		s.Fatalf("receipt %+v", r)
	}
	if have := s.holds(first); have.Metadata.ResourceVersion == before.Metadata.ResourceVersion {
		s.Error("nothing was ever written")
	}
	// What was not there before is not there again.
	must(s.T, s.call(http.MethodDelete, s.path()+"/"+secretName, nil, nil))
	if r := s.apply(short, s.next()); r.Outcome != certctl.OutcomeFailed || r.Code != "not_served" || !r.Fingerprint.IsZero() {
		s.Fatalf("receipt %+v", r)
	}
	if _, err := s.find(secretName); err == nil {
		s.Error("it is still there")
	}
	stuck.Store(false)
	last := s.next()
	s.installed(last, s.apply(object{"listen": []string{address}}, last), "probe")
}

var errCrash = errors.New("crash")

// crash applies and dies at a point.
func (s *kubeSuite) crash(settings object, point string, install target.Install) {
	s.Helper()
	defer func() {
		if caught := recover(); caught != errCrash { //nolint:errorlint // a panic's value
			s.Fatalf("the point %s was not reached: %v", point, caught)
		}
	}()
	s.open(settings, func(at string) {
		if at == point {
			panic(errCrash)
		}
	}).Apply(s.Context(), []target.Install{install})
}

func (s *kubeSuite) recovers() {
	var stuck atomic.Bool
	settings := object{"listen": []string{s.serve(secretName, &stuck)}, "wait_seconds": 30}
	first := s.next()
	s.installed(first, s.apply(settings, first), "probe")
	for _, point := range []string{target.FaultStaged, target.FaultSwitched, target.FaultProbed} {
		next := s.next()
		s.crash(settings, point, next)
		notes, err := filepath.Glob(filepath.Join(s.state, "*.json"))
		if err != nil || len(notes) != 1 {
			s.Fatalf("after a crash at %s: %v, %v", point, notes, err)
		}
		if info, err := os.Stat(notes[0]); err != nil || info.Mode().Perm() != 0o600 {
			s.Errorf("the note of the key before: %v, %v", info.Mode(), err)
		}
		must(s.T, s.open(settings, nil).Recover(s.Context()))
		s.holds(first)
		s.installed(next, s.apply(settings, next), "probe")
		first = next
	}
	// Where nothing is proven there is nothing to take back.
	next := s.next()
	s.crash(nil, target.FaultSwitched, next)
	must(s.T, s.open(nil, nil).Recover(s.Context()))
	s.holds(next)
}

// looksAgain has somebody change the Secret between a look and the update.
func (s *kubeSuite) looksAgain() {
	first, second := s.next(), s.next()
	s.installed(first, s.apply(nil, first), "loaded")
	came := 0
	opened := s.open(nil, func(at string) {
		if at == target.FaultStaged && came < 2 {
			came++
			have := s.get(secretName)
			have.Metadata.Annotations["came"] = strings.Repeat("x", came)
			s.put(have)
		}
	})
	have := s.installed(second, opened.Apply(s.Context(), []target.Install{second})[0], "loaded")
	if came != 2 || have.Metadata.Annotations["came"] != "xx" {
		s.Errorf("%d times: %+v", came, have.Metadata)
	}
}

func (s *kubeSuite) refuses() {
	good := s.next()
	s.installed(good, s.apply(nil, good), "loaded")
	otherKey, place := s.next(), s.next()
	otherKey.Key = good.Key
	place.Command.Place = "*.example.com"
	for code, install := range map[string]target.Install{"pair_mismatch": otherKey, "place_refused": place} {
		if r := s.apply(nil, install); r.Code != code || r.VerifiedBy != "" {
			s.Errorf("receipt %+v", r)
		}
	}
	s.holds(good)
}

func (s *kubeSuite) removes() {
	install := s.next()
	s.installed(install, s.apply(nil, install), "loaded")
	forget := certctl.ForgetCommand{Place: secretName, Slot: certctl.SlotDefault}
	must(s.T, s.open(nil, nil).Forget(s.Context(), forget))
	have := s.holds(install)
	forget.Remove = true
	have.Metadata.Annotations = nil
	s.put(have)
	if err := s.open(nil, nil).Forget(s.Context(), forget); certctl.ErrorCode(err) != certctl.Conflict {
		s.Errorf("what is another's: %v", err)
	}
	s.installed(install, s.apply(object{"adopt": true}, install), "loaded")
	for range 2 { // the second time there is nothing left to do
		must(s.T, s.open(nil, nil).Forget(s.Context(), forget))
	}
	if _, err := s.find(secretName); err == nil {
		s.Error("it is still there")
	}
}

func (s *kubeSuite) inspects() {
	install, other := s.next(), s.next()
	good := s.installed(install, s.apply(nil, install), "loaded")
	c := install.Command
	inspect := func(settings object) certctl.Code {
		return certctl.ErrorCode(s.open(settings, nil).Inspect(c.Place, c.Slot, c.Fingerprint, c.SPKI))
	}
	if code := inspect(nil); code != "" {
		s.Errorf("what was just installed: %s", code)
	}
	fullchain, key, err := target.PEM(other)
	must(s.T, err)
	for name, data := range map[string]map[string][]byte{
		"another leaf": {"tls.crt": fullchain, "tls.key": key}, "another key": {"tls.crt": good.Data["tls.crt"], "tls.key": key},
		"nothing": {"tls.crt": {}, "tls.key": {}},
	} {
		changed := s.get(secretName)
		changed.Data = data
		s.put(changed)
		if code := inspect(nil); code != certctl.Conflict {
			s.Errorf("%s: %s", name, code)
		}
		s.installed(install, s.apply(nil, install), "loaded")
	}
	// That nobody answers says nothing of the Secret.
	if code := inspect(object{"server": "https://127.0.0.1:1"}); code != certctl.Unavailable {
		s.Errorf("nobody answers: %s", code)
	}
	must(s.T, s.call(http.MethodDelete, s.path()+"/"+secretName, nil, nil))
	if code := inspect(nil); code != certctl.Conflict {
		s.Errorf("it is gone: %s", code)
	}
}

func (s *kubeSuite) erases() {
	first, second := s.next(), s.next()
	s.installed(first, s.apply(nil, first), "loaded")
	s.installed(second, s.apply(nil, second), "loaded")
	opened := s.open(nil, nil)
	if err := opened.Erase(secretName, certctl.SlotDefault, second.Command.SPKI); certctl.ErrorCode(err) != certctl.Conflict {
		s.Errorf("the key in service: %v", err)
	}
	must(s.T, opened.Erase(secretName, certctl.SlotDefault, first.Command.SPKI))
	s.holds(second)
}

// needsRights takes the rights away, one by one.
func (s *kubeSuite) needsRights() {
	missing := func(verb string, verbs ...string) {
		s.Helper()
		n := s.cluster.namespace(s.T, verbs...)
		opened, err := remote.Kinds().Open(n.spec(nil), target.Env{Policy: anything{}, Now: time.Now, StateDir: s.state})
		must(s.T, err)
		r := opened.Apply(s.Context(), []target.Install{s.next()})[0]
		if r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Remedy, "the verb "+verb+" ") {
			s.Errorf("without %s: %+v", verb, r)
		}
	}
	missing("get", "create", "update")
	missing("create", "get", "update")
	must(s.T, os.WriteFile(s.tokenFile, []byte("no token"), 0o600))
	if r := s.apply(nil, s.next()); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Remedy, "token") {
		s.Errorf("receipt %+v", r)
	}
}
