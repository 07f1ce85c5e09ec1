package remote_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
	"github.com/certctl/certctl/agent/target/remote"
	"github.com/certctl/certctl/agent/target/targettest"
)

// acmSuite is one test of the kind aws-acm, with an account of its own.
type acmSuite struct {
	*testing.T
	server *acmServer
	dir    string
	next   func() target.Install

	installation byte // which of certctl, all with a target of the same name
}

func TestAWSACM(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*acmSuite){
		"installs and renews":                (*acmSuite).installsAndRenews,
		"finds its own again":                (*acmSuite).findsItsOwn,
		"leaves what others have made":       (*acmSuite).leavesOthers,
		"is not another of its name":         (*acmSuite).isNotItsNamesake,
		"keeps nothing of another store":     (*acmSuite).moves,
		"takes over what the settings name":  (*acmSuite).takesOver,
		"proves what is served":              (*acmSuite).provesWhatIsServed,
		"puts back what was":                 (*acmSuite).putsBack,
		"recovers from a crash":              (*acmSuite).recovers,
		"imports once when answers get lost": (*acmSuite).losesAnAnswer,
		"claims nothing that is not noted":   (*acmSuite).losesItsNote,
		"waits when it is throttled":         (*acmSuite).isThrottled,
		"says which right is missing":        (*acmSuite).needsRights,
		"refuses what does not fit":          (*acmSuite).refuses,
		"keeps slots apart":                  (*acmSuite).keepsSlotsApart,
		"removes only its own":               (*acmSuite).removes,
		"tells what others changed":          (*acmSuite).inspects,
		"erases nothing in service":          (*acmSuite).erases,
		"tests without a change":             (*acmSuite).tests,
		"reads keys and nothing else":        (*acmSuite).readsCredentials,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &acmSuite{T: t, server: startACM(t), dir: filepath.Join(t.TempDir(), "[data]*"), next: targettest.Installs(t, acmPlace, acmSite)}
			must(t, os.Mkdir(s.dir, 0o700))
			must(t, os.WriteFile(s.path("roots.pem"), s.server.roots(), 0o600))
			s.credentials("[default]\naws_access_key_id = " + acmKeyID + "\naws_secret_access_key = " + acmSecret + "\n")
			test(s)
		})
	}
}

const (
	acmPlace = "shop*1" // tags cannot hold a star
	acmSite  = "www.shop.example.com"
)

func (s *acmSuite) path(name string) string { return filepath.Join(s.dir, name) }

func (s *acmSuite) credentials(content string) {
	s.Helper()
	must(s.T, os.WriteFile(s.path("credentials"), []byte(content), 0o600))
}

func (s *acmSuite) spec(more object) certctl.TargetCommand {
	s.Helper()
	settings := object{"region": acmRegion, "endpoint": s.server.URL, "ca_file": s.path("roots.pem"), "credentials_file": s.path("credentials")}
	maps.Copy(settings, more)
	encoded, err := json.Marshal(settings)
	must(s.T, err)
	return certctl.TargetCommand{Target: certctl.ID{6, s.installation}, Name: "shop", Kind: "aws-acm", Settings: encoded}
}

// open opens the target as a new process would.
func (s *acmSuite) open(settings object, fault func(string)) target.Opened {
	s.Helper()
	opened, err := remote.Kinds().Open(s.spec(settings), target.Env{Policy: anything{}, Now: time.Now, StateDir: s.path("targets"), Fault: fault})
	must(s.T, err)
	return opened
}

func (s *acmSuite) apply(settings object, install target.Install) certctl.Receipt {
	s.Helper()
	return s.open(settings, nil).Apply(s.Context(), []target.Install{install})[0]
}

// installed proves that the receipt says so, and that ACM has the leaf with its
// chain; that it has its key, too, is the server's condition for an import.
func (s *acmSuite) installed(install target.Install, r certctl.Receipt, by string) (arn string) {
	s.Helper()
	if r.VerifiedBy != by || r.Fingerprint != install.Command.Fingerprint || r.Code != "" {
		s.Fatalf("receipt %+v", r)
	}
	return s.holds(install)
}

func (s *acmSuite) holds(install target.Install) (arn string) {
	s.Helper()
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for arn, c := range s.server.certs {
		if certctl.DigestOf(c.pair.Certificate[0]) == install.Command.Fingerprint && len(c.pair.Certificate) == 2 {
			return arn
		}
	}
	s.Errorf("ACM does not have %s", install.Command.Fingerprint)
	return ""
}

// imports is how often something was imported.
func (s *acmSuite) imports() (n int) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for _, call := range s.server.calls {
		if call == "ImportCertificate" {
			n++
		}
	}
	return n
}

func (s *acmSuite) count() int {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	return len(s.server.certs)
}

// change changes what ACM has.
func (s *acmSuite) change(arn string, f func(*acmCertificate)) {
	s.Helper()
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	f(s.server.certs[arn])
}

func (s *acmSuite) use(arn string) {
	s.Helper()
	s.change(arn, func(c *acmCertificate) {
		c.inUseBy = []string{"arn:aws:elasticloadbalancing:" + acmRegion + ":123456789012:loadbalancer/app/shop/1"}
	})
}

func (s *acmSuite) installsAndRenews() {
	first, second := s.next(), s.next()
	r := s.apply(nil, first)
	arn := s.installed(first, r, "loaded")
	if r.Message != arn || r.Outcome != certctl.OutcomeInstalled {
		s.Errorf("who sets up a listener is not told the ARN: %+v", r)
	}
	s.installed(first, s.apply(nil, first), "loaded")
	if n := s.imports(); n != 1 {
		s.Errorf("the same version was imported %d times", n)
	}
	if again := s.installed(second, s.apply(nil, second), "loaded"); again != arn || s.count() != 1 {
		s.Errorf("a renewal is %s, not %s", again, arn)
	}
	leaf, chain, err := s.open(nil, nil).(reader).Read(acmPlace, certctl.SlotDefault)
	if err != nil || certctl.DigestOf(leaf) != second.Command.Fingerprint || len(chain) != 1 {
		s.Errorf("%d certificates, %v", len(chain), err)
	}
}

type reader interface {
	Read(place string, slot certctl.Slot) (leaf []byte, chain certctl.Chain, err error)
}

// findsItsOwn loses what the proxy has noted.
func (s *acmSuite) findsItsOwn() {
	for i := range 3 { // more than a page of them
		other := targettest.Installs(s.T, "other-"+strconv.Itoa(i), "other.example.com")()
		s.installed(other, s.apply(nil, other), "loaded")
	}
	first, second := s.next(), s.next()
	arn := s.installed(first, s.apply(nil, first), "loaded")
	must(s.T, os.RemoveAll(s.path("targets")))
	if again := s.installed(second, s.apply(nil, second), "loaded"); again != arn || s.count() != 4 {
		s.Errorf("%s was not found: there are %d", arn, s.count())
	}
}

// foreign puts a certificate into ACM that this target has not made.
func (s *acmSuite) foreign(kind string) (arn string, install target.Install) {
	s.Helper()
	install = s.next()
	arn = s.installed(install, s.apply(nil, install), "loaded")
	must(s.T, os.RemoveAll(s.path("targets")))
	s.change(arn, func(c *acmCertificate) {
		c.kind, c.tags = kind, map[string]string{"certctl-target": "another", "certctl-place": "shop"}
	})
	return arn, install
}

func (s *acmSuite) leavesOthers() {
	arn, theirs := s.foreign("IMPORTED")
	install := s.next()
	if got := s.installed(install, s.apply(nil, install), "loaded"); got == arn || s.count() != 2 {
		s.Error("it is another's")
	}
	s.holds(theirs)
	// What was ours when it was noted, and is another's now.
	s.change(s.holds(install), func(c *acmCertificate) { c.tags = nil })
	if r := s.apply(nil, s.next()); r.Outcome != certctl.OutcomeFailed || r.Code != "not_ours" || !strings.Contains(r.Remedy, "settings") {
		s.Errorf("receipt %+v", r)
	}
}

// isNotItsNamesake has two installations of certctl with the same account.
func (s *acmSuite) isNotItsNamesake() {
	theirs, install := s.next(), s.next()
	s.installed(theirs, s.apply(nil, theirs), "loaded")
	must(s.T, os.RemoveAll(s.path("targets")))
	s.installation++
	s.installed(install, s.apply(nil, install), "loaded")
	s.holds(theirs)
	if s.count() != 2 {
		s.Errorf("there are %d", s.count())
	}
}

// moves goes to another region: the keys that were kept for the way back there go.
func (s *acmSuite) moves() {
	install := s.next()
	c := install.Command
	for _, end := range []func(target.Opened) error{
		func(o target.Opened) error { return o.Recover(s.Context()) },
		func(o target.Opened) error { return o.Erase(acmPlace, certctl.SlotDefault, c.SPKI) },
		func(o target.Opened) error {
			return o.Forget(s.Context(), certctl.ForgetCommand{Place: acmPlace, Slot: certctl.SlotDefault})
		},
	} {
		s.installed(install, s.apply(nil, install), "loaded")
		if len(s.notes()) != 1 {
			s.Errorf("notes %v", s.notes())
		}
		must(s.T, end(s.open(object{"region": "us-east-1"}, nil)))
		if len(s.notes()) != 0 {
			s.Errorf("a key is left: %v", s.notes())
		}
	}
}

func (s *acmSuite) takesOver() {
	arn, _ := s.foreign("IMPORTED")
	settings := object{"arns": map[string]string{acmPlace: arn}}
	install := s.next()
	if got := s.installed(install, s.apply(settings, install), "loaded"); got != arn || s.count() != 1 {
		s.Errorf("it went to %s", got)
	}
	// It has no way back to what it has never had, and says so.
	must(s.T, os.RemoveAll(s.path("targets")))
	s.use(arn)
	var stuck atomic.Bool
	address := s.serve(&stuck)
	s.handshake(address)
	stuck.Store(true)
	next := s.next()
	r := s.apply(object{"arns": map[string]string{acmPlace: arn}, "listen": []string{address}, "wait_seconds": 1}, next)
	if r.Outcome != certctl.OutcomeFailed || r.Code != "not_served" || !strings.Contains(r.Message, "its key was never on this node") {
		s.Errorf("receipt %+v", r)
	}
	s.holds(next)
	// What ACM makes itself nobody can replace, and what is not there neither.
	s.change(arn, func(c *acmCertificate) { c.kind = "AMAZON_ISSUED" })
	if r := s.apply(settings, s.next()); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Message, "was not imported") {
		s.Errorf("receipt %+v", r)
	}
	gone := object{"arns": map[string]string{acmPlace: arn[:len(arn)-1] + "9"}}
	if r := s.apply(gone, s.next()); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Remedy, "correct the settings") {
		s.Errorf("receipt %+v", r)
	}
	if s.count() != 1 {
		s.Error("another one was made")
	}
}

// serve is a load balancer that serves what ACM has.
func (s *acmSuite) serve(stuck *atomic.Bool) (address string) {
	s.Helper()
	return serveStored(s.T, stuck, func() (pair *tls.Certificate) {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		for _, c := range s.server.certs {
			last := c.pair
			pair = &last
		}
		return pair
	})
}

func (s *acmSuite) handshake(address string) {
	s.Helper()
	handshake(s.T, address)
}

func (s *acmSuite) provesWhatIsServed() {
	var stuck atomic.Bool
	settings := object{"listen": []string{s.serve(&stuck)}, "wait_seconds": 30}
	first := s.next()
	arn := s.installed(first, s.apply(settings, first), "loaded") // nothing uses it: there is nothing to probe
	s.use(arn)
	for _, install := range []target.Install{first, s.next(), s.next()} {
		r := s.apply(settings, install)
		s.installed(install, r, "probe")
		if r.Outcome != certctl.OutcomeVerified || len(r.Served) != 1 {
			s.Errorf("receipt %+v", r)
		}
	}
	if n := s.imports(); n != 3 {
		s.Errorf("%d imports", n)
	}
}

func (s *acmSuite) putsBack() {
	var stuck atomic.Bool
	address := s.serve(&stuck)
	first := s.next()
	arn := s.installed(first, s.apply(nil, first), "loaded")
	s.use(arn)
	s.handshake(address)
	stuck.Store(true)
	short := object{"listen": []string{address}, "wait_seconds": 1}
	if r := s.apply(short, s.next()); r.Outcome != certctl.OutcomeRolledBack || r.Code != "not_served" || r.Fingerprint != first.Command.Fingerprint {
		s.Fatalf("receipt %+v", r)
	}
	if got := s.holds(first); got != arn || s.imports() != 3 {
		s.Errorf("%d imports", s.imports())
	}
	stuck.Store(false)
	last := s.next()
	s.installed(last, s.apply(object{"listen": []string{address}, "wait_seconds": 30}, last), "probe")
}

var errACMCrash = errors.New("crash")

// crash applies and dies at a point.
func (s *acmSuite) crash(settings object, point string, install target.Install) {
	s.Helper()
	defer func() {
		if caught := recover(); caught != errACMCrash { //nolint:errorlint // a panic's value
			s.Fatalf("the point %s was not reached: %v", point, caught)
		}
	}()
	s.open(settings, func(at string) {
		if at == point {
			panic(errACMCrash)
		}
	}).Apply(s.Context(), []target.Install{install})
}

func (s *acmSuite) recovers() {
	var stuck atomic.Bool
	settings := object{"listen": []string{s.serve(&stuck)}, "wait_seconds": 30}
	first := s.next()
	arn := s.installed(first, s.apply(settings, first), "loaded")
	s.use(arn)
	for _, point := range []string{target.FaultStaged, target.FaultSwitched, target.FaultProbed} {
		next := s.next()
		s.crash(settings, point, next)
		for _, note := range s.notes() {
			if info, err := os.Stat(note); err != nil || info.Mode().Perm() != 0o600 {
				s.Errorf("the note with the keys: %v, %v", info.Mode(), err)
			}
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
	before := s.imports()
	s.installed(next, s.apply(nil, next), "loaded")
	if s.imports() != before {
		s.Error("it was imported again")
	}
}

func (s *acmSuite) notes() []string {
	s.Helper()
	files, err := os.ReadDir(s.path("targets"))
	must(s.T, err)
	var notes []string
	for _, file := range files {
		if strings.HasSuffix(file.Name(), ".json") {
			notes = append(notes, filepath.Join(s.path("targets"), file.Name()))
		}
	}
	return notes
}

// losesAnAnswer breaks the connection after ACM has imported a first certificate,
// whose ARN nobody knows then.
func (s *acmSuite) losesAnAnswer() {
	s.server.mu.Lock()
	s.server.lost = true
	s.server.mu.Unlock()
	install := s.next()
	if r := s.apply(nil, install); r.Outcome != certctl.OutcomeFailed || r.Code != "write_failed" {
		s.Fatalf("receipt %+v", r)
	}
	s.installed(install, s.apply(nil, install), "loaded")
	if s.count() != 1 || s.imports() != 1 {
		s.Errorf("%d certificates by %d imports", s.count(), s.imports())
	}
}

// losesItsNote has a disk that fails once ACM has the certificate.
func (s *acmSuite) losesItsNote() {
	first, second := s.next(), s.next()
	s.installed(first, s.apply(nil, first), "loaded")
	r := s.open(nil, func(point string) {
		if note := s.notes()[0]; point == target.FaultStaged {
			must(s.T, os.Remove(note))
			must(s.T, os.MkdirAll(filepath.Join(note, "in the way"), 0o700))
		}
	}).Apply(s.Context(), []target.Install{second})[0]
	if r.Outcome != certctl.OutcomeFailed || r.Code != "write_failed" || !r.Fingerprint.IsZero() {
		s.Errorf("receipt %+v", r)
	}
	s.holds(second)
}

func (s *acmSuite) fail(operation string, codes ...string) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.fails[operation] = codes
}

func (s *acmSuite) isThrottled() {
	s.fail("ImportCertificate", "ThrottlingException", "ThrottlingException")
	s.fail("DescribeCertificate", "ThrottlingException")
	install := s.next()
	s.installed(install, s.apply(nil, install), "loaded")
	if s.count() != 1 || s.imports() != 3 {
		s.Errorf("%d certificates by %d imports", s.count(), s.imports())
	}
	s.fail("ImportCertificate", "LimitExceededException")
	if r := s.apply(nil, s.next()); r.Outcome != certctl.OutcomeRolledBack || r.Code != "write_failed" || !strings.Contains(r.Remedy, "quota") {
		s.Errorf("receipt %+v", r)
	}
	s.holds(install)
}

func (s *acmSuite) needsRights() {
	first := s.next()
	s.installed(first, s.apply(nil, first), "loaded")
	deny := func(operation string) {
		s.Helper()
		s.server.mu.Lock()
		s.server.denied = map[string]bool{operation: true}
		s.server.mu.Unlock()
		if r := s.apply(nil, s.next()); r.VerifiedBy != "" || !strings.Contains(r.Remedy, "acm:"+operation) {
			s.Errorf("without %s: %+v", operation, r)
		}
	}
	for _, operation := range []string{"DescribeCertificate", "GetCertificate", "ListTagsForCertificate", "ImportCertificate"} {
		deny(operation)
	}
	s.holds(first)
	must(s.T, os.RemoveAll(s.path("targets")))
	deny("ListCertificates")
	s.credentials("[default]\naws_access_key_id = " + acmKeyID + "\naws_secret_access_key = another\n")
	if r := s.apply(nil, s.next()); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Remedy, "credentials") {
		s.Errorf("receipt %+v", r)
	}
	if s.count() != 1 {
		s.Error("something was made")
	}
}

func (s *acmSuite) refuses() {
	good := s.next()
	s.installed(good, s.apply(nil, good), "loaded")
	otherKey, place, otherKind := s.next(), s.next(), targettest.Pairs(s.T, acmPlace, acmSite)()[0]
	otherKey.Key = good.Key
	place.Command.Place = ".."
	otherKind.Command.Slot = certctl.SlotDefault
	for code, install := range map[string]target.Install{"pair_mismatch": otherKey, "place_refused": place, "write_failed": otherKind} {
		if r := s.apply(nil, install); r.Code != code || r.VerifiedBy != "" || code == "write_failed" && !strings.Contains(r.Remedy, "another place") {
			s.Errorf("receipt %+v", r)
		}
	}
	s.holds(good)
	// A kind of key that ACM does not know is not sent at all.
	before := s.imports()
	if r := s.apply(nil, ed25519Install(s.T, acmPlace, acmSite)); r.Code != "check_refused" || r.Outcome != certctl.OutcomeRolledBack || !strings.Contains(r.Remedy, "profile") {
		s.Errorf("receipt %+v", r)
	}
	if s.imports() != before {
		s.Error("it was sent")
	}
}

func (s *acmSuite) keepsSlotsApart() {
	pair := targettest.Pairs(s.T, acmPlace, acmSite)
	first, second := pair(), pair()
	arns := []string{}
	for _, install := range first {
		arns = append(arns, s.installed(install, s.apply(nil, install), "loaded"))
	}
	must(s.T, os.RemoveAll(s.path("targets")))
	for i, install := range second {
		if arn := s.installed(install, s.apply(nil, install), "loaded"); arn != arns[i] {
			s.Errorf("%s is at %s, not %s", install.Command.Slot, arn, arns[i])
		}
	}
	if s.count() != 2 {
		s.Errorf("there are %d", s.count())
	}
}

func (s *acmSuite) removes() {
	install := s.next()
	arn := s.installed(install, s.apply(nil, install), "loaded")
	s.use(arn)
	forget := certctl.ForgetCommand{Place: acmPlace, Slot: certctl.SlotDefault, Remove: true}
	if err := s.open(nil, nil).Forget(s.Context(), forget); certctl.ErrorCode(err) != certctl.Conflict || len(s.notes()) != 1 {
		s.Errorf("what is in use: %v", err)
	}
	forget.Remove = false
	must(s.T, s.open(nil, nil).Forget(s.Context(), forget))
	if s.holds(install) != arn || len(s.notes()) != 0 {
		s.Errorf("a key is left: %v", s.notes())
	}
	forget.Remove = true
	s.change(arn, func(c *acmCertificate) { c.inUseBy = nil })
	for range 2 { // the second time there is nothing left to do
		must(s.T, s.open(nil, nil).Forget(s.Context(), forget))
	}
	if s.count() != 0 {
		s.Error("it is still there")
	}
	arn, _ = s.foreign("IMPORTED")
	if err := s.open(object{"arns": map[string]string{acmPlace: arn}}, nil).Forget(s.Context(), forget); certctl.ErrorCode(err) != certctl.Conflict || s.count() != 1 {
		s.Errorf("what is another's: %v", err)
	}
}

func (s *acmSuite) inspects() {
	install, other := s.next(), s.next()
	arn := s.installed(install, s.apply(nil, install), "loaded")
	c := install.Command
	inspect := func(settings object) certctl.Code {
		return certctl.ErrorCode(s.open(settings, nil).Inspect(c.Place, c.Slot, c.Fingerprint, c.SPKI))
	}
	if code := inspect(nil); code != "" {
		s.Errorf("what was just installed: %s", code)
	}
	leaf, err := x509.ParseCertificate(other.Command.Leaf)
	must(s.T, err)
	s.change(arn, func(c *acmCertificate) {
		c.pair = tls.Certificate{Certificate: [][]byte{leaf.Raw}, Leaf: leaf, PrivateKey: other.Key}
	})
	if code := inspect(nil); code != certctl.Conflict {
		s.Errorf("another leaf: %s", code)
	}
	s.installed(install, s.apply(nil, install), "loaded")
	// That nobody answers, or does not want to, says nothing of the certificate.
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	must(s.T, err)
	must(s.T, nobody.Close())
	if code := inspect(object{"endpoint": "https://" + nobody.Addr().String()}); code != certctl.Unavailable {
		s.Errorf("nobody answers: %s", code)
	}
	s.server.mu.Lock()
	s.server.denied["GetCertificate"] = true
	s.server.mu.Unlock()
	if code := inspect(nil); code != certctl.Unavailable {
		s.Errorf("it may not be looked at: %s", code)
	}
	s.server.mu.Lock()
	s.server.denied, s.server.certs, s.server.order = map[string]bool{}, map[string]*acmCertificate{}, nil
	s.server.mu.Unlock()
	if code := inspect(nil); code != certctl.Conflict {
		s.Errorf("it is gone: %s", code)
	}
	s.installed(install, s.apply(nil, install), "loaded")
}

func (s *acmSuite) erases() {
	first, second := s.next(), s.next()
	s.installed(first, s.apply(nil, first), "loaded")
	s.installed(second, s.apply(nil, second), "loaded")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	must(s.T, err)
	defer silent.Close()
	must(s.T, s.open(object{"endpoint": "https://" + silent.Addr().String()}, nil).Erase(acmPlace, certctl.SlotDefault, first.Command.SPKI))
	opened := s.open(nil, nil)
	if err := opened.Erase(acmPlace, certctl.SlotDefault, second.Command.SPKI); certctl.ErrorCode(err) != certctl.Conflict {
		s.Errorf("the key in service: %v", err)
	}
	must(s.T, opened.Erase(acmPlace, certctl.SlotDefault, first.Command.SPKI))
	arn := s.holds(second)
	// Somebody else has replaced it: then nothing needs the key that was kept.
	leaf, err := x509.ParseCertificate(first.Command.Leaf)
	must(s.T, err)
	s.change(arn, func(c *acmCertificate) {
		c.pair = tls.Certificate{Certificate: [][]byte{leaf.Raw}, Leaf: leaf, PrivateKey: first.Key}
	})
	must(s.T, opened.Erase(acmPlace, certctl.SlotDefault, second.Command.SPKI))
	for _, note := range s.notes() {
		if content, err := os.ReadFile(note); err != nil || strings.Contains(string(content), `"key"`) {
			s.Errorf("the key is still kept: %v", err)
		}
	}
}

func (s *acmSuite) tests() {
	tester := func(settings object) []certctl.TestStep {
		return s.open(settings, nil).(interface {
			Test(ctx context.Context, command certctl.TestCommand) []certctl.TestStep
		}).Test(s.Context(), certctl.TestCommand{Places: []certctl.TestPlace{{Place: acmPlace, Slot: certctl.SlotDefault, Names: certctl.Names{DNS: []string{acmSite}}}}})
	}
	if steps := tester(nil); len(steps) != 1 || steps[0].State != certctl.StepOK || !strings.Contains(steps[0].Message, "would be made") {
		s.Errorf("%+v", steps)
	}
	install := s.next()
	arn := s.installed(install, s.apply(nil, install), "loaded")
	var stuck atomic.Bool
	listen := object{"listen": []string{s.serve(&stuck)}}
	if steps := tester(listen); len(steps) != 2 || !strings.Contains(steps[0].Message, arn) || steps[1].State != certctl.StepSkipped {
		s.Errorf("%+v", steps)
	}
	s.use(arn)
	if steps := tester(listen); len(steps) != 2 || steps[1].State != certctl.StepOK || steps[1].Message != "serves it" {
		s.Errorf("%+v", steps)
	}
	s.server.mu.Lock()
	s.server.denied["GetCertificate"] = true
	s.server.mu.Unlock()
	if steps := tester(listen); len(steps) != 1 || steps[0].State != certctl.StepFails || !strings.Contains(steps[0].Remedy, "acm:GetCertificate") {
		s.Errorf("%+v", steps)
	}
	if s.imports() != 1 {
		s.Error("something was changed")
	}
}

// readsCredentials has files that AWS' tools would read otherwise.
func (s *acmSuite) readsCredentials() {
	ran := s.path("ran")
	install := s.next()
	keys := "aws_access_key_id = " + acmKeyID + "\naws_secret_access_key = " + acmSecret + "\n"
	for content, remedy := range map[string]string{
		"[default]\ncredential_process = /usr/bin/touch " + ran + "\n": "aws_access_key_id",
		"[other]\n" + keys: "[default]",
		"nothing":          "aws_access_key_id",
	} {
		s.credentials(content)
		if r := s.apply(nil, install); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Remedy, remedy) {
			s.Errorf("%s: receipt %+v", content, r)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		s.Error("a command was run")
	}
	s.credentials("[other]\n" + keys)
	must(s.T, os.Chmod(s.path("credentials"), 0o640))
	if r := s.apply(object{"profile": "other"}, install); r.Outcome != certctl.OutcomeFailed || !strings.Contains(r.Remedy, "chmod") {
		s.Errorf("receipt %+v", r)
	}
	must(s.T, os.Chmod(s.path("credentials"), 0o600))
	s.installed(install, s.apply(object{"profile": "other"}, install), "loaded")
	if slices.Contains(s.server.calls, "DeleteCertificate") {
		s.Error("something was deleted")
	}
}

// ed25519Install is one with a key of a kind that ACM does not know.
func ed25519Install(t *testing.T, place string, names ...string) target.Install {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "self"}, DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	leaf, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	must(t, err)
	facts, err := certctl.ParseLeaf(leaf)
	must(t, err)
	return target.Install{Key: key, Command: certctl.InstallCommand{
		Deployment: certctl.NewID(time.Now()), Binding: certctl.NewID(time.Now()), Version: certctl.NewID(time.Now()), Place: place, Slot: certctl.SlotDefault,
		Fingerprint: facts.Fingerprint, SPKI: facts.SPKI, Names: facts.Names, Leaf: leaf,
	}}
}
