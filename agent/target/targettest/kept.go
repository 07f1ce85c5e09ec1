package targettest

import (
	"path/filepath"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// kept is the target that a test works with, where that is one which hands out itself.
type kept struct {
	mu      sync.Mutex // guards all below
	target  target.Opened
	crashes bool // it was made to
}

// open opens the target; fault is called at its named points.
func (s *suite) open(fault func(string)) target.Opened {
	s.Helper()
	s.kept.mu.Lock()
	defer s.kept.mu.Unlock()
	if s.kept.target != nil && fault == nil && !s.kept.crashes {
		return s.kept.target
	}
	s.kept.end()
	opened, err := s.table().Open(s.daemon.Spec, target.Env{Policy: s.daemon.Policy, Now: time.Now, StateDir: s.state, Fault: fault})
	if err != nil {
		s.Fatal(err)
	}
	if s.daemon.Hands {
		s.bind(opened)
		s.kept.target, s.kept.crashes = opened, fault != nil
	}
	return opened
}

// bind binds the places that are there, as the agent does.
func (s *suite) bind(opened target.Opened) {
	s.Helper()
	binder, ok := opened.(target.Binder)
	if !ok {
		s.Fatal("a target that hands out must know what is bound to it")
	}
	links, err := filepath.Glob(filepath.Join(s.daemon.Directory, "*", "current"))
	if err != nil {
		s.Fatal(err)
	}
	var bound []target.Place
	for _, link := range links {
		bound = append(bound, target.Place{Name: filepath.Base(filepath.Dir(link)), Slot: certctl.SlotDefault})
	}
	binder.Bind(func() []target.Place { return bound })
}

// close ends it with the test.
func (k *kept) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.end()
}

// end ends it, as the end of its process would. The lock is held.
func (k *kept) end() {
	if binder, ok := k.target.(target.Binder); ok {
		_ = binder.Close() // the next one says what is in its way
	}
	k.target, k.crashes = nil, false
}
