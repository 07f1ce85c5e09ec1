// Package targettest is what every kind of target must do, as tests that run
// against the real daemon. A driver's own test starts the daemon and calls Run.
package targettest

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/probe"
	"github.com/certctl/certctl/agent/target"
)

// Daemon is a running daemon that a target manages, or a folder.
type Daemon struct {
	// Spec describes the target; its settings have a directory of their own.
	Spec certctl.TargetCommand
	// Directory is that of the settings.
	Directory string
	// Table has the kind; nil: the agent's.
	Table target.Table
	// Policy is the node's.
	Policy target.Policy
	// Address is where the daemon serves TLS, see probe.Address. Empty: there is nothing to probe, and
	// an installation ends as installed.
	Address string
	// Break makes the daemon refuse its configuration, in words that contain
	// Complaint, until Repair.
	Break, Repair func()
	Complaint     string
	// Single: the daemon's configuration names one place.
	Single bool
	// Restarts: a reload has the daemon begin anew, some moments after it was told to;
	// files that are switched while it reads them end it.
	Restarts bool
	// Unname makes the configuration name no file of the place any more; nil: what it
	// names may be missing.
	Unname func()
	// Hands: the target hands certificates out itself, so that it is kept open, as the
	// agent does, and another one takes its place only when it has been closed.
	Hands bool
	// Fragile: a reload that meets a key or chain that does not fit ends the
	// daemon, and one that was asked for before may come after a test's change.
	Fragile bool
}

// Run runs the tests of every kind; start gives each a daemon of its own.
func Run(t *testing.T, start func(t *testing.T) *Daemon) {
	t.Helper()
	for name, test := range map[string]func(*suite){
		"installs and renews":              (*suite).installsAndRenews,
		"changes nothing twice":            (*suite).changesNothingTwice,
		"repairs what others changed":      (*suite).repairs,
		"serves through every switch":      (*suite).servesThrough,
		"goes back when refused":           (*suite).goesBackWhenRefused,
		"fails first and leaves no trace":  (*suite).failsFirst,
		"recovers from a crash":            (*suite).recoversFromACrash,
		"refuses what does not fit":        (*suite).refusesWhatDoesNotFit,
		"installs many at once":            (*suite).installsMany,
		"removes only what nobody names":   (*suite).removes,
		"keeps to the policy":              (*suite).keepsToThePolicy,
		"keeps keys to itself":             (*suite).keepsKeysToItself,
		"lets two targets take their turn": (*suite).takesTurns,
		"erases compromised keys":          (*suite).erases,
		"tests without a change":           (*suite).testsWithoutAChange,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(newSuite(t, start(t)))
		})
	}
}

// suite is one test with its daemon.
type suite struct {
	*testing.T
	daemon    *Daemon
	authority *authority
	binding   certctl.ID
	state     string // the node's, of every process that opens the target

	kept kept
}

func newSuite(t *testing.T, d *Daemon) *suite {
	t.Helper()
	s := &suite{T: t, daemon: d, authority: newAuthority(t), binding: certctl.NewID(time.Now()), state: t.TempDir()}
	t.Cleanup(s.kept.close)
	return s
}

const (
	place = "shop"
	host  = "shop.example.com"
)

func (s *suite) table() target.Table {
	if s.daemon.Table != nil {
		return s.daemon.Table
	}
	return target.Kinds()
}

func (s *suite) next() target.Install {
	s.Helper()
	return s.authority.install(s.T, s.binding, place, host)
}

func (s *suite) apply(installs ...target.Install) []certctl.Receipt {
	s.Helper()
	return s.open(nil).Apply(s.Context(), installs)
}

// done is how an installation ends that succeeds.
func (s *suite) done() certctl.ReceiptOutcome {
	if s.daemon.Address == "" {
		return certctl.OutcomeInstalled
	}
	return certctl.OutcomeVerified
}

// installed proves that a leaf is in place, with its key, and served.
func (s *suite) installed(install target.Install, r certctl.Receipt) {
	s.Helper()
	if r.Outcome != s.done() || r.Fingerprint != install.Command.Fingerprint || r.Deployment != install.Command.Deployment {
		s.Fatalf("receipt %+v", r)
	}
	s.serves(install)
}

// serves proves which leaf is in place, and that its key is, too.
func (s *suite) serves(install target.Install) {
	s.Helper()
	current := filepath.Join(s.daemon.Directory, install.Command.Place, "current")
	pair, err := tls.LoadX509KeyPair(filepath.Join(current, "fullchain.pem"), filepath.Join(current, "privkey.pem"))
	if err != nil {
		s.Fatal(err)
	}
	if got := certctl.Digest(sha256.Sum256(pair.Certificate[0])); got != install.Command.Fingerprint {
		s.Errorf("%s is in place, want %s", got, install.Command.Fingerprint)
	}
	if s.daemon.Address == "" {
		return
	}
	// Workers of before a reload may answer for some moments more.
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		got := s.served(install.Command.Names.DNS[0])
		if got == install.Command.Fingerprint {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			s.Fatalf("%s is served, want %s", got, install.Command.Fingerprint)
		}
	}
}

func (s *suite) served(name string) certctl.Digest {
	s.Helper()
	served, err := probe.TLS(s.Context(), s.daemon.Address, name)
	if err != nil {
		s.Fatal(err)
	}
	return served.Fingerprint
}

// generations are the folders of the place.
func (s *suite) generations() []string {
	s.Helper()
	entries, err := os.ReadDir(filepath.Join(s.daemon.Directory, place, "generations"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names
}

func (s *suite) installsAndRenews() {
	first, second, third := s.next(), s.next(), s.next()
	for _, install := range []target.Install{first, second, third} {
		s.installed(install, s.apply(install)[0])
	}
	if got := s.generations(); len(got) != 2 {
		s.Errorf("generations %v: the current one and one before it are kept", got)
	}
}

func (s *suite) changesNothingTwice() {
	install := s.next()
	s.installed(install, s.apply(install)[0])
	before := s.generations()
	s.installed(install, s.apply(install)[0])
	if after := s.generations(); strings.Join(after, " ") != strings.Join(before, " ") {
		s.Errorf("generations %v, before %v", after, before)
	}
}

func (s *suite) goesBackWhenRefused() {
	first, second := s.next(), s.next()
	s.installed(first, s.apply(first)[0])
	s.daemon.Break()
	r := s.apply(second)[0]
	if r.Outcome != certctl.OutcomeRolledBack || r.Fingerprint != first.Command.Fingerprint || !strings.Contains(r.Message, s.daemon.Complaint) || r.Code == "" {
		s.Fatalf("receipt %+v", r)
	}
	s.serves(first)
	s.daemon.Repair()
	s.installed(second, s.apply(second)[0])
}

func (s *suite) failsFirst() {
	s.daemon.Break()
	install := s.next()
	r := s.apply(install)[0]
	if r.Outcome != certctl.OutcomeFailed || !r.Fingerprint.IsZero() || !strings.Contains(r.Message, s.daemon.Complaint) {
		s.Fatalf("receipt %+v", r)
	}
	if _, err := os.Lstat(filepath.Join(s.daemon.Directory, place, "current")); !errors.Is(err, fs.ErrNotExist) {
		s.Errorf("something is current: %v", err)
	}
	if got := s.generations(); len(got) != 0 {
		s.Errorf("left behind: %v", got)
	}
	s.daemon.Repair()
	s.installed(install, s.apply(install)[0])
}

func (s *suite) refusesWhatDoesNotFit() {
	good := s.next()
	s.installed(good, s.apply(good)[0])
	otherKey, otherLeaf, otherNames, otherPlace, expired := s.next(), s.next(), s.next(), s.next(), s.next()
	otherKey.Key = newKey(s.T)
	otherLeaf.Command.Leaf = good.Command.Leaf
	otherNames.Command.Names = certctl.Names{DNS: []string{"admin.example.com"}}
	otherPlace.Command.Place = "../" + place
	expired.Command.Chain = certctl.Chain{good.Command.Leaf}
	for name, install := range map[string]target.Install{
		"another key": otherKey, "another leaf": otherLeaf, "other names": otherNames, "a place elsewhere": otherPlace, "a chain that does not fit": expired,
	} {
		r := s.apply(install)[0]
		if r.Outcome != certctl.OutcomeFailed && r.Outcome != certctl.OutcomeRolledBack {
			s.Errorf("%s: %+v", name, r)
		}
		s.serves(good)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(s.daemon.Directory), place)); !errors.Is(err, fs.ErrNotExist) {
		s.Errorf("something was written outside the directory: %v", err)
	}
}

func (s *suite) installsMany() {
	names := []string{"a", "b", "c", "d", "e"}
	if s.daemon.Single {
		names = []string{place}
	}
	var batch []target.Install
	for _, name := range names {
		batch = append(batch, s.authority.install(s.T, certctl.NewID(time.Now()), name, name+".example.com"))
	}
	bad := s.authority.install(s.T, certctl.NewID(time.Now()), "bad", "bad.example.com")
	bad.Key = newKey(s.T)
	receipts := s.apply(append(batch, bad)...)
	for i, install := range batch {
		s.installed(install, receipts[i])
	}
	if r := receipts[len(batch)]; r.Outcome != certctl.OutcomeFailed {
		s.Errorf("the bad one: %+v", r)
	}
}

func (s *suite) removes() {
	install := s.next()
	s.installed(install, s.apply(install)[0])
	forget := certctl.ForgetCommand{Binding: s.binding, Place: place, Slot: certctl.SlotDefault}
	if err := s.open(nil).Forget(s.Context(), forget); err != nil {
		s.Fatal(err)
	}
	s.serves(install)
	forget.Remove = true
	if s.daemon.Unname != nil {
		if err := s.open(nil).Forget(s.Context(), forget); certctl.ErrorCode(err) != certctl.Conflict {
			s.Errorf("what the configuration names: %v", err)
		}
		s.serves(install)
		s.daemon.Unname()
	}
	if err := s.open(nil).Forget(s.Context(), forget); err != nil {
		s.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.daemon.Directory, place)); !errors.Is(err, fs.ErrNotExist) {
		s.Errorf("it is still there: %v", err)
	}
	if err := s.open(nil).Forget(s.Context(), forget); err != nil {
		s.Errorf("to forget twice: %v", err)
	}
}

// strict allows nothing.
type strict struct{}

func (strict) AllowDirectory(string) error { return certctl.Errorf(certctl.Denied, "not here") }
func (strict) AllowConfig(string) error    { return certctl.Errorf(certctl.Denied, "not this") }
func (strict) AllowCommand([]string) error { return certctl.Errorf(certctl.Denied, "not that") }

func (s *suite) keepsToThePolicy() {
	if _, err := s.table().Open(s.daemon.Spec, target.Env{Policy: strict{}, Now: time.Now, StateDir: s.state}); certctl.ErrorCode(err) != certctl.Denied {
		s.Errorf("a policy that allows nothing: %v", err)
	}
}

// keepsKeysToItself looks at every file of the directory.
func (s *suite) keepsKeysToItself() {
	first, second := s.next(), s.next()
	s.apply(first)
	s.apply(second)
	keys := 0
	err := filepath.WalkDir(s.daemon.Directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(content), "PRIVATE KEY") {
			return err
		}
		keys++
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm() != 0o600 || !strings.Contains(path, "/generations/") {
			s.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return nil
	})
	if each := s.keyFiles(second); err != nil || each == 0 || keys != 2*each {
		s.Errorf("%d keys in two generations of %d, %v", keys, each, err)
	}
}

// keyFiles counts the files of a generation that hold the key.
func (s *suite) keyFiles(install target.Install) (n int) {
	s.Helper()
	paths, err := filepath.Glob(filepath.Join(s.daemon.Directory, install.Command.Place, "current", "*"))
	if err != nil {
		s.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			s.Fatal(err)
		}
		if strings.Contains(string(content), "PRIVATE KEY") {
			n++
		}
	}
	return n
}

func (s *suite) takesTurns() {
	ends := make(chan certctl.Receipt, 4)
	var installs []target.Install
	for range cap(ends) {
		installs = append(installs, s.next())
	}
	for _, install := range installs {
		go func() { ends <- s.apply(install)[0] }()
	}
	for range cap(ends) {
		if r := <-ends; r.Outcome != s.done() && r.Outcome != certctl.OutcomeRolledBack {
			s.Errorf("receipt %+v", r)
		}
	}
	last := s.next()
	s.installed(last, s.apply(last)[0])
}
