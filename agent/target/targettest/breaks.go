package targettest

import (
	"sync"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// Breaks installs while the way to the target's host breaks at a point: no
// success, and the version of before or the next is in place and served once the
// way is there again, without a restart.
func Breaks(t *testing.T, d *Daemon, point string, cut, heal func()) {
	t.Helper()
	s := newSuite(t, d)
	first, second := s.next(), s.next()
	s.installed(first, s.apply(first)[0])
	var once sync.Once
	opened := s.open(func(at string) {
		if at == point {
			once.Do(cut)
		}
	})
	r := opened.Apply(t.Context(), []target.Install{second})[0]
	if r.Outcome == certctl.OutcomeInstalled {
		t.Errorf("receipt %+v", r)
	}
	heal()
	if r.Outcome != certctl.OutcomeVerified {
		// What does not fit ends before anything is switched: what was before holds.
		unfit := s.next()
		unfit.Key = newKey(t)
		if r := opened.Apply(t.Context(), []target.Install{unfit})[0]; r.Outcome != certctl.OutcomeRolledBack {
			t.Errorf("receipt %+v", r)
		}
	}
	s.installed(second, opened.Apply(t.Context(), []target.Install{second})[0])
	if err := opened.Recover(t.Context()); err != nil {
		t.Error(err)
	}
	s.serves(second)
	third := s.next()
	s.installed(third, opened.Apply(t.Context(), []target.Install{third})[0])
	if got := s.generations(); len(got) > 2 {
		t.Errorf("generations %v", got)
	}
}
