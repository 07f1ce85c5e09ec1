package agent

import (
	"maps"
	"slices"
	"sync"

	"github.com/certctl/certctl"
)

// lanes run jobs: those of one lane one batch after the other, different lanes
// side by side, at most a number of them at a time. What arrives while a lane
// is busy waits and then runs as one batch; of jobs with one key only the
// highest number counts. Of what runs a lane knows nothing: a job that is put
// again meanwhile runs afterwards, and finds in the journal that it is done.
type lanes struct {
	run     func(lane certctl.ID, batch []job)
	slots   chan struct{} // its capacity is how many lanes run at a time
	settled chan struct{} // capacity 1: nothing runs and nothing waits

	mu    sync.Mutex           // guards all below
	lane  map[certctl.ID]queue // the busy ones
	ended bool
	group sync.WaitGroup
}

// queue is what waits in one busy lane, by the jobs' subjects.
type queue map[certctl.ID]job

// job is a verified command with its decoded body: exactly one of these.
type job struct {
	statement certctl.Statement
	key       *certctl.KeyCommand
	install   *certctl.InstallCommand
	forget    *certctl.ForgetCommand
	share     *certctl.ShareCommand
	erase     *certctl.EraseCommand
	prove     *certctl.ProveCommand
	test      *certctl.TestCommand
}

// lane of a job: its target's, its own, or the one where keys are made.
func (j job) lane() certctl.ID {
	switch {
	case j.install != nil:
		return j.install.Target
	case j.forget != nil:
		return j.forget.Target
	case j.erase != nil:
		return j.erase.Erasure
	case j.prove != nil:
		return j.prove.Set
	case j.test != nil:
		return j.test.Target // not while something is installed there
	}
	return certctl.NoID
}

// subject is what the job's number is about: an order or a binding.
func (j job) subject() certctl.ID {
	if j.install != nil {
		return j.install.Binding
	}
	return j.statement.Object
}

func newLanes(parallel int, run func(certctl.ID, []job)) *lanes {
	return &lanes{
		run: run, slots: make(chan struct{}, parallel), settled: make(chan struct{}, 1),
		lane: map[certctl.ID]queue{},
	}
}

// put takes the jobs of one answer.
func (l *lanes) put(jobs []job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	for _, j := range jobs {
		id := j.lane()
		q, busy := l.lane[id]
		if !busy {
			q = queue{}
			l.lane[id] = q
			l.group.Add(1)
			go l.drain(id, q) // waits for mu, so it sees the whole answer
		}
		if other, waits := q[j.subject()]; !waits || other.statement.Number < j.statement.Number {
			q[j.subject()] = j
		}
	}
}

// drain runs a lane until nothing waits in it.
func (l *lanes) drain(id certctl.ID, q queue) {
	defer l.group.Done()
	for {
		batch := l.next(id, q)
		if batch == nil {
			return
		}
		l.slots <- struct{}{}
		l.run(id, batch)
		<-l.slots
	}
}

// next takes what waits in a lane, or ends the lane.
func (l *lanes) next(id certctl.ID, q queue) []job {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(q) == 0 || l.ended {
		delete(l.lane, id)
		if len(l.lane) == 0 {
			select {
			case l.settled <- struct{}{}:
			default:
			}
		}
		return nil
	}
	batch := slices.Collect(maps.Values(q))
	clear(q)
	return batch
}

// idle reports whether nothing runs and nothing waits.
func (l *lanes) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lane) == 0
}

// end starts nothing further and returns when the running batches are done.
func (l *lanes) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.group.Wait()
}
