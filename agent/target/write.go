package target

import (
	"context"
	"sync"

	"github.com/certctl/certctl"
)

// check returns the commands that could be installed as steps. A failure is a receipt.
func (r *run) check(ctx context.Context, batch []Install) (steps []*step) {
	for _, install := range batch {
		c := install.Command
		if err := certctl.CheckPlace(c.Place); err != nil {
			r.fail(c, certctl.OutcomeFailed, "place_refused", err)
			continue
		}
		s := &step{install: install, place: r.target.driver.layout().placeOf(c.Place, c.Slot)}
		var err error
		if s.leaf, err = checkPair(install, r.target.env.Now()); err != nil {
			r.unchanged(s, "pair_mismatch", err)
			continue
		}
		if err := r.takeBack(ctx, s.place); err != nil {
			r.unchanged(s, "write_failed", err)
			continue
		}
		steps = append(steps, s)
	}
	return steps
}

// writers is how many generations are written at a time: each waits for the disk
// several times, and a disk syncs many files in about the time of one.
const writers = 16

// writeAll writes the generations of steps, and returns those that are written. A
// failure is a receipt.
func (r *run) writeAll(steps []*step) (written []*step) {
	limit, seen := writers, map[string]bool{}
	for _, s := range steps {
		if seen[s.place.path] || s.place.other != nil {
			limit = 1 // two of one place follow each other; and another host is asked one thing at a time
		}
		seen[s.place.path] = true
	}
	errs := make([]error, len(steps))
	places := make(chan struct{}, limit)
	var group sync.WaitGroup
	for i, s := range steps {
		places <- struct{}{}
		group.Go(func() {
			errs[i] = r.write(s, material{install: s.install, place: s.place, leaf: s.leaf})
			<-places
		})
	}
	group.Wait()
	for i, s := range steps {
		if errs[i] != nil {
			r.unchanged(s, "write_failed", errs[i])
			continue
		}
		written = append(written, s)
	}
	return written
}

// write makes the step's generation. The current one is it already when it holds
// the same files: the same leaf with another chain, or with files that somebody
// has changed, is written anew.
func (r *run) write(s *step, m material) error {
	current, err := s.place.number()
	if err != nil {
		return err
	}
	files, err := render(r.target.driver, m, current)
	if err != nil {
		return err
	}
	if current > 0 && s.place.consistsOf(current, files) {
		s.next, s.previous = current, before(s.place, current)
		return nil
	}
	newest, err := s.place.newest()
	if err != nil {
		return err
	}
	s.previous, s.next = current, newest+1
	if files, err = render(r.target.driver, m, s.next); err != nil {
		return err
	}
	return s.place.write(s.next, files)
}

// numbered is a driver whose files are others for each generation.
type numbered interface {
	numbered(m material, n int) ([]file, error)
}

// render makes the files of a generation.
func render(d driver, m material, n int) ([]file, error) {
	files, err := pemFiles(m.install.Command, m.install.Key)
	if err != nil {
		return nil, err
	}
	more, err := d.files(m)
	if err != nil {
		return nil, err
	}
	files = append(files, more...)
	if own, ok := d.(numbered); ok {
		more, err = own.numbered(m, n)
		files = append(files, more...)
	}
	return files, err
}
