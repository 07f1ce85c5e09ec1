package targettest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

// testsWithoutAChange tests a target before anything is installed, when something
// is, and when the daemon refuses its configuration: each time it says so, and
// nothing in the folders of the target and of the node's state is touched.
func (s *suite) testsWithoutAChange() {
	first := s.next()
	place := certctl.TestPlace{Certificate: "shop", Place: place, Slot: certctl.SlotDefault, Names: first.Command.Names, Fingerprint: first.Command.Fingerprint}
	s.passes("before", place)
	s.installed(first, s.apply(first)[0])
	s.passes("installed", place)
	next := place
	next.Fingerprint = s.next().Command.Fingerprint
	s.passes("to be renewed", next)
	s.daemon.Break()
	defer s.daemon.Repair()
	step := checked(s.test(place))
	if s.mayHaveNoCheck(step) {
		return
	}
	if step.State != certctl.StepFails && !s.checkedAsItIs(step) || !strings.Contains(step.Message, s.daemon.Complaint) {
		s.Errorf("a refused configuration: %+v", step)
	}
}

// checked is the step that is the daemon's own check.
func checked(steps []certctl.TestStep) certctl.TestStep {
	return steps[slices.IndexFunc(steps, func(step certctl.TestStep) bool { return step.Step == "check" })]
}

// mayHaveNoCheck reports whether a kind says that it has no check, and may.
func (s *suite) mayHaveNoCheck(step certctl.TestStep) bool {
	return strings.Contains(step.Message, "no check of its own") && (!s.kind().Check || s.daemon.Spec.Kind == "files")
}

// checkedAsItIs reports whether the configuration was checked as it is, which is all
// that can be done on a host where nothing can be staged in memory.
func (s *suite) checkedAsItIs(step certctl.TestStep) bool {
	return s.daemon.Spec.Kind == "ssh" && step.State == certctl.StepSkipped && strings.Contains(step.Message, "asked here without a change")
}

// kind is what the table says of the daemon's.
func (s *suite) kind() target.Descriptor {
	kinds := s.table()
	return kinds[slices.IndexFunc(kinds, func(d target.Descriptor) bool { return d.Kind == s.daemon.Spec.Kind })]
}

// passes tests, and proves that nothing would fail.
func (s *suite) passes(when string, places ...certctl.TestPlace) {
	s.Helper()
	steps := s.test(places...)
	for _, step := range steps {
		if step.State == certctl.StepFails {
			s.Errorf("%s: %+v", when, step)
		}
	}
	if step := checked(steps); step.State != certctl.StepOK && !s.mayHaveNoCheck(step) && !s.checkedAsItIs(step) {
		s.Errorf("%s: %+v", when, step)
	}
}

// test tests, and proves that nothing was changed.
func (s *suite) test(places ...certctl.TestPlace) []certctl.TestStep {
	s.Helper()
	tester, can := s.open(nil).(interface {
		Test(ctx context.Context, command certctl.TestCommand) []certctl.TestStep
	})
	if !can {
		s.Fatal("this kind cannot be tested")
	}
	before := Snapshot(s.T, s.daemon.Directory, s.state)
	steps := tester.Test(s.Context(), certctl.TestCommand{Places: places, NotAfter: time.Now().Add(time.Minute)})
	after := Snapshot(s.T, s.daemon.Directory, s.state)
	if changed := Changed(before, after); len(changed) > 0 {
		s.Errorf("the test has changed %v", changed)
	}
	if len(steps) == 0 {
		s.Error("the test says nothing")
	}
	return steps
}

// Changed are the paths of which two snapshots say different things.
func Changed(before, after map[string]string) (paths []string) {
	for path, facts := range after {
		if before[path] != facts {
			paths = append(paths, path)
		}
	}
	for path := range before {
		if _, still := after[path]; !still {
			paths = append(paths, path)
		}
	}
	return paths
}

// Snapshot notes inode, mode, owner, time and size of everything below folders that
// are there, but for the logs that daemons write there.
func Snapshot(t *testing.T, folders ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && path == folder || strings.HasSuffix(path, ".log") {
				return nil
			}
			if err != nil {
				return err
			}
			info, err := os.Lstat(path)
			if err != nil {
				return err
			}
			stat, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				return nil
			}
			all[path] = fmt.Sprint(stat.Ino, info.Mode(), stat.Uid, stat.Gid, info.ModTime().UnixNano(), info.Size())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
