package remote_test

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"maps"
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

const gcpPlace = "shop"

// gcpSuite is one test of the kind gcp-certificate-manager, with a project of its own.
// What all stores have in common is tested with ACM.
type gcpSuite struct {
	*testing.T
	server *gcpServer
	dir    string
	next   func() target.Install
}

func TestGCPCertificateManager(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*gcpSuite){
		"installs and renews":             (*gcpSuite).installsAndRenews,
		"leaves what others have made":    (*gcpSuite).leavesOthers,
		"keeps places and slots apart":    (*gcpSuite).keepsApart,
		"puts back what was":              (*gcpSuite).putsBack,
		"makes one when answers get lost": (*gcpSuite).losesAnAnswer,
		"waits as long as Google says":    (*gcpSuite).isThrottled,
		"says what is missing":            (*gcpSuite).needsRights,
		"refuses what does not fit":       (*gcpSuite).refuses,
		"removes only its own":            (*gcpSuite).removes,
		"reads keys and nothing else":     (*gcpSuite).readsCredentials,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &gcpSuite{T: t, server: startGCP(t), dir: t.TempDir(), next: targettest.Installs(t, gcpPlace, "shop.example.com")}
			must(t, os.WriteFile(s.path("roots.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw}), 0o600))
			must(t, os.WriteFile(s.path("account.json"), s.server.key(), 0o600))
			test(s)
		})
	}
}

func (s *gcpSuite) path(name string) string { return filepath.Join(s.dir, name) }

func (s *gcpSuite) open(more object) target.Opened {
	s.Helper()
	settings := object{"project": "shop-1", "endpoint": s.server.URL, "ca_file": s.path("roots.pem"), "credentials_file": s.path("account.json")}
	maps.Copy(settings, more)
	encoded, err := json.Marshal(settings)
	must(s.T, err)
	opened, err := remote.Kinds().Open(certctl.TargetCommand{Name: "Shop@1", Kind: "gcp-certificate-manager", Settings: encoded},
		target.Env{Policy: anything{}, Now: time.Now, StateDir: s.path("targets")})
	must(s.T, err)
	return opened
}

func (s *gcpSuite) apply(settings object, install target.Install) certctl.Receipt {
	s.Helper()
	return s.open(settings).Apply(s.Context(), []target.Install{install})[0]
}

// change looks at, or changes, what Google has.
func (s *gcpSuite) change(f func(certs map[string]*gcpHeld)) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	f(s.server.certs)
}

func (s *gcpSuite) installed(install target.Install, r certctl.Receipt, by string) {
	s.Helper()
	if r.VerifiedBy != by || r.Fingerprint != install.Command.Fingerprint || r.Code != "" {
		s.Fatalf("receipt %+v", r)
	}
	s.holds(install)
}

func (s *gcpSuite) holds(install target.Install) {
	s.Helper()
	s.change(func(certs map[string]*gcpHeld) {
		c := certs[gcpParent+"/certificates/"+gcpPlace]
		if c == nil || certctl.DigestOf(c.pair.Certificate[0]) != install.Command.Fingerprint || len(c.pair.Certificate) != 2 {
			s.Errorf("Google has %+v, not %s", c, install.Command.Fingerprint)
		}
	})
}

func (s *gcpSuite) called(method string) (n int) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for _, call := range s.server.calls {
		if call == method {
			n++
		}
	}
	return n
}

func (s *gcpSuite) installsAndRenews() {
	first, second := s.next(), s.next()
	r := s.apply(nil, first)
	s.installed(first, r, "loaded")
	if r.Message != gcpParent+"/certificates/"+gcpPlace {
		s.Errorf("receipt %+v", r)
	}
	s.installed(first, s.apply(nil, first), "loaded")
	must(s.T, os.RemoveAll(s.path("targets"))) // it is found by its name, and known by its label
	s.installed(second, s.apply(nil, second), "loaded")
	if s.called("certificates.create") != 1 || s.called("certificates.patch") != 1 || s.called("operations.get") != 4 {
		s.Errorf("calls %v", s.server.calls)
	}
	for i, install := range targettest.Pairs(s.T, gcpPlace, "shop.example.com")() {
		if r := s.apply(nil, install); r.VerifiedBy != "loaded" || !strings.HasSuffix(r.Message, []string{"/shop-rsa", "/shop-ecdsa"}[i]) {
			s.Errorf("receipt %+v", r)
		}
	}
}

func (s *gcpSuite) leavesOthers() {
	theirs := s.next()
	s.installed(theirs, s.apply(nil, theirs), "loaded")
	must(s.T, os.RemoveAll(s.path("targets")))
	s.change(func(certs map[string]*gcpHeld) {
		certs[gcpParent+"/certificates/"+gcpPlace].about["labels"] = object{"by": "hand"}
	})
	if r := s.apply(nil, s.next()); r.Outcome != certctl.OutcomeFailed || r.Code != "not_ours" {
		s.Errorf("receipt %+v", r)
	}
	s.holds(theirs)
	install := s.next()
	s.installed(install, s.apply(object{"adopt": []string{gcpPlace}}, install), "loaded")
	s.change(func(certs map[string]*gcpHeld) { certs[gcpParent+"/certificates/"+gcpPlace].managed = true })
	if r := s.apply(object{"adopt": []string{gcpPlace}}, s.next()); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Message, "managed by Google") {
		s.Errorf("receipt %+v", r)
	}
}

// keepsApart has a place that is called as another's slot would be.
func (s *gcpSuite) keepsApart() {
	slot := targettest.Pairs(s.T, gcpPlace, "shop.example.com")()[1]
	place := targettest.Installs(s.T, gcpPlace+"-ecdsa", "shop.example.com")()
	if r := s.apply(nil, slot); r.VerifiedBy != "loaded" {
		s.Fatalf("receipt %+v", r)
	}
	for range 2 {
		if r := s.apply(nil, place); r.Outcome != certctl.OutcomeFailed || r.Code != "not_ours" || r.Remedy == "" {
			s.Errorf("receipt %+v", r)
		}
	}
	forget := certctl.ForgetCommand{Place: gcpPlace + "-ecdsa", Slot: certctl.SlotDefault, Remove: true}
	if err := s.open(nil).Forget(s.Context(), forget); certctl.ErrorCode(err) != certctl.Conflict {
		s.Errorf("another binding's certificate: %v", err)
	}
	if r := s.apply(nil, slot); r.VerifiedBy != "loaded" {
		s.Errorf("receipt %+v", r)
	}
	must(s.T, os.RemoveAll(s.path("targets")))
	s.change(func(certs map[string]*gcpHeld) {
		certs[gcpParent+"/certificates/shop-ecdsa"].about["labels"] = object{"by": "hand"}
	})
	if r := s.apply(object{"adopt": []string{"shop~ecdsa"}}, slot); r.VerifiedBy != "loaded" {
		s.Errorf("one of a slot that is to be adopted: %+v", r)
	}
}

func (s *gcpSuite) putsBack() {
	var stuck atomic.Bool
	address := serveStored(s.T, &stuck, func() (pair *tls.Certificate) {
		s.change(func(certs map[string]*gcpHeld) { last := certs[gcpParent+"/certificates/"+gcpPlace].pair; pair = &last })
		return pair
	})
	settings := object{"listen": []string{address}, "wait_seconds": 30}
	first, second := s.next(), s.next()
	s.installed(first, s.apply(settings, first), "loaded") // nothing uses it yet
	s.change(func(certs map[string]*gcpHeld) {
		certs[gcpParent+"/certificates/"+gcpPlace].usedBy = []string{"//compute.googleapis.com/projects/shop-1/global/targetHttpsProxies/shop"}
	})
	s.installed(second, s.apply(settings, second), "probe")
	stuck.Store(true)
	settings["wait_seconds"] = 1
	if r := s.apply(settings, s.next()); r.Outcome != certctl.OutcomeRolledBack || r.Code != "not_served" || r.Fingerprint != second.Command.Fingerprint {
		s.Fatalf("receipt %+v", r)
	}
	s.holds(second)
}

func (s *gcpSuite) losesAnAnswer() {
	s.server.mu.Lock()
	s.server.lost = true
	s.server.mu.Unlock()
	install := s.next()
	if r := s.apply(nil, install); r.Outcome != certctl.OutcomeFailed || r.Code != "write_failed" {
		s.Fatalf("receipt %+v", r)
	}
	s.installed(install, s.apply(nil, install), "loaded")
	if s.called("certificates.create") != 1 || s.called("certificates.patch") != 0 {
		s.Errorf("calls %v", s.server.calls)
	}
	// Of a renewal nobody claims then that the one before is in place.
	s.server.mu.Lock()
	s.server.lost = true
	s.server.mu.Unlock()
	second := s.next()
	if r := s.apply(nil, second); r.Outcome != certctl.OutcomeFailed || !r.Fingerprint.IsZero() {
		s.Fatalf("receipt %+v", r)
	}
	s.installed(second, s.apply(nil, second), "loaded")
	if s.called("certificates.patch") != 1 {
		s.Errorf("calls %v", s.server.calls)
	}
	// Google goes on with what it has begun, whoever asks.
	s.refuse("operations.get", &gcpAnswer{status: http.StatusServiceUnavailable, word: "UNAVAILABLE"})
	third := s.next()
	s.installed(third, s.apply(nil, third), "loaded")
}

func (s *gcpSuite) refuse(method string, answers ...*gcpAnswer) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.refuse[method] = answers
}

func (s *gcpSuite) isThrottled() {
	many := &gcpAnswer{status: http.StatusTooManyRequests, word: "RESOURCE_EXHAUSTED", retryAfter: "1"}
	s.refuse("certificates.create", many)
	install, begun := s.next(), time.Now()
	s.installed(install, s.apply(nil, install), "loaded")
	if waited := time.Since(begun); waited < time.Second || s.called("certificates.create") != 2 {
		s.Errorf("waited %s, %v", waited, s.server.calls)
	}
	many.retryAfter = "3600" // longer than anybody waits here
	s.refuse("certificates.patch", many)
	if r := s.apply(nil, s.next()); r.Outcome != certctl.OutcomeRolledBack || r.Code != "write_failed" || s.called("certificates.patch") != 1 {
		s.Errorf("receipt %+v, %v", r, s.server.calls)
	}
	s.holds(install)
}

func (s *gcpSuite) needsRights() {
	forbidden := &gcpAnswer{status: http.StatusForbidden, word: "PERMISSION_DENIED"}
	install := s.next()
	for method, verb := range map[string]string{"certificates.get": "get", "certificates.create": "create"} {
		s.refuse(method, forbidden)
		if r := s.apply(nil, install); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Remedy, "certificatemanager.certs."+verb) {
			s.Errorf("without %s: %+v", verb, r)
		}
	}
	s.installed(install, s.apply(nil, install), "loaded")
	s.refuse("certificates.patch", forbidden)
	if r := s.apply(nil, s.next()); r.Outcome != certctl.OutcomeRolledBack || !strings.Contains(r.Remedy, "certificatemanager.certs.update") {
		s.Errorf("receipt %+v", r)
	}
	s.holds(install)
}

func (s *gcpSuite) refuses() {
	install := s.next()
	s.installed(install, s.apply(nil, install), "loaded")
	for _, place := range []string{"shop.example.com", "Shop", "1shop"} {
		other := targettest.Installs(s.T, place, "shop.example.com")()
		if r := s.apply(nil, other); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Remedy, "lower-case letters") {
			s.Errorf("receipt %+v", r)
		}
	}
	if r := s.apply(nil, ed25519Install(s.T, gcpPlace, "shop.example.com")); r.Code != "check_refused" || r.Outcome != certctl.OutcomeRolledBack {
		s.Errorf("receipt %+v", r)
	}
	// An operation that ends badly, after it was begun well.
	s.server.mu.Lock()
	s.server.operationError = object{"code": 3, "message": "the key is of no use"}
	s.server.mu.Unlock()
	if r := s.apply(nil, s.next()); r.Code != "write_failed" || r.Outcome != certctl.OutcomeRolledBack || !strings.Contains(r.Message, "of no use") {
		s.Errorf("receipt %+v", r)
	}
	s.holds(install)
}

func (s *gcpSuite) removes() {
	install := s.next()
	s.installed(install, s.apply(nil, install), "loaded")
	use := func(by ...string) {
		s.change(func(certs map[string]*gcpHeld) { certs[gcpParent+"/certificates/"+gcpPlace].usedBy = by })
	}
	use("//compute.googleapis.com/projects/shop-1/global/targetHttpsProxies/shop")
	forget := certctl.ForgetCommand{Place: gcpPlace, Slot: certctl.SlotDefault, Remove: true}
	if err := s.open(nil).Forget(s.Context(), forget); certctl.ErrorCode(err) != certctl.Conflict {
		s.Errorf("what is in use: %v", err)
	}
	use()
	must(s.T, s.open(nil).Forget(s.Context(), forget))
	s.change(func(certs map[string]*gcpHeld) {
		if len(certs) != 0 {
			s.Error("it is still there")
		}
	})
}

func (s *gcpSuite) readsCredentials() {
	install := s.next()
	for content, mode := range map[string]os.FileMode{
		`{"type": "external_account", "credential_source": {"url": "https://x"}, "token_url": "https://x", "audience": "x", "subject_token_type": "x"}`: 0o600,
		`nothing`: 0o600, string(s.server.key()): 0o640,
	} {
		must(s.T, os.WriteFile(s.path("account.json"), []byte(content), mode))
		must(s.T, os.Chmod(s.path("account.json"), mode))
		if r := s.apply(nil, install); r.Outcome != certctl.OutcomeFailed || r.Remedy == "" {
			s.Errorf("%s: receipt %+v", certctl.Clip(content, 40), r)
		}
	}
	if len(s.server.calls) > 0 {
		s.Errorf("calls %v", s.server.calls)
	}
	must(s.T, os.Chmod(s.path("account.json"), 0o600))
	must(s.T, os.WriteFile(s.path("account.json"), s.server.key(), 0o600))
	s.installed(install, s.apply(nil, install), "loaded")
}
