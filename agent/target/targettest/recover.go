package targettest

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// errCrash is what a test's crash panics with.
var errCrash = errors.New("crash")

// recoversFromACrash ends an installation at each point, as a kill would, and
// lets another process begin.
func (s *suite) recoversFromACrash() {
	first := s.next()
	s.installed(first, s.apply(first)[0])
	for _, point := range []string{target.FaultStaged, target.FaultSwitched, target.FaultReloaded, target.FaultProbed} {
		next := s.next()
		crashed := s.crash(point, next)
		if !crashed {
			if point == target.FaultProbed && s.daemon.Address == "" {
				continue // nothing is probed there
			}
			s.Fatalf("the point %s was not reached", point)
		}
		if point == target.FaultReloaded && s.daemon.Restarts {
			s.serves(next) // an agent takes longer to begin anew than the daemon does
		}
		again := s.open(nil)
		if err := again.Recover(s.Context()); err != nil {
			s.Fatalf("after a crash at %s: %v", point, err)
		}
		s.serves(first)
		s.installed(next, again.Apply(s.Context(), []target.Install{next})[0])
		if got := s.generations(); len(got) > 2 {
			s.Errorf("after a crash at %s: generations %v", point, got)
		}
		first = next
	}
}

// crash applies and dies at a point.
func (s *suite) crash(point string, install target.Install) (crashed bool) {
	s.Helper()
	defer func() {
		if caught := recover(); caught != nil {
			if caught != errCrash { //nolint:errorlint // a panic's value
				panic(caught)
			}
			crashed = true
		}
	}()
	s.open(func(at string) {
		if at == point {
			panic(errCrash)
		}
	}).Apply(s.Context(), []target.Install{install})
	return false
}

// repairs changes installed files in several ways: each is told, and mended by
// the same command once more.
func (s *suite) repairs() {
	install, other := s.next(), s.next()
	s.installed(install, s.apply(install)[0])
	c := install.Command
	inspect := func() error { return s.open(nil).Inspect(c.Place, c.Slot, c.Fingerprint, c.SPKI) }
	if err := inspect(); err != nil {
		s.Fatalf("what was just installed: %v", err)
	}
	current := filepath.Join(s.daemon.Directory, place, "current")
	for name, change := range map[string]struct {
		sound bool // the daemon can read it at any moment
		do    func() error
	}{
		"no link":         {false, func() error { return os.Remove(current) }},
		"no key":          {false, func() error { return os.Remove(filepath.Join(current, "privkey.pem")) }},
		"an open key":     {true, func() error { return os.Chmod(filepath.Join(current, "privkey.pem"), 0o666) }}, //nolint:gosec // on purpose
		"another key":     {false, func() error { return writeKey(filepath.Join(current, "privkey.pem"), other.Key) }},
		"another leaf":    {true, func() error { return writeLeaf(filepath.Join(current, "cert.pem"), other.Command.Leaf) }},
		"another chain":   {false, func() error { return writeLeaf(filepath.Join(current, "fullchain.pem"), other.Command.Leaf) }},
		"an empty chain":  {false, func() error { return os.Truncate(filepath.Join(current, "fullchain.pem"), 0) }},
		"another version": {false, func() error { return writePair(current, other) }},
	} {
		if s.daemon.Fragile && !change.sound {
			continue
		}
		if err := change.do(); err != nil {
			s.Fatal(err)
		}
		if err := inspect(); certctl.ErrorCode(err) != certctl.Conflict {
			s.Errorf("%s: %v", name, err)
		}
		s.installed(install, s.apply(install)[0])
		if err := inspect(); err != nil {
			s.Errorf("%s, mended: %v", name, err)
		}
	}
}
