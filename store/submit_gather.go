package store

import (
	"context"
	"sync"
	"time"

	"github.com/certctl/certctl"
)

// Bounds of gathering. Two transactions are under way at most: while one waits for
// its commit, the other works.
const (
	gatherMost    = 256
	gatherLeaders = 2
	gatherTime    = 30 * time.Second
)

// gathering lets submissions that come at the same time share a transaction: most
// of what one costs, round trips and the commit, is the same for many. One that
// comes alone waits for nobody.
type gathering struct {
	mu      sync.Mutex
	queue   []*waitingSubmission
	leaders int
}

// waitingSubmission is a submission that waits for its transaction.
type waitingSubmission struct {
	actor   certctl.Actor
	request certctl.CertificateRequest
	made    certctl.Submitted
	err     error
	done    chan struct{}
}

// submit queues a submission and returns when it is recorded or refused. The
// caller leads a transaction itself unless enough are under way.
func (g *gathering) submit(ctx context.Context, s *Store, actor certctl.Actor, request certctl.CertificateRequest) (certctl.Submitted, error) {
	mine := &waitingSubmission{actor: actor, request: request, done: make(chan struct{})}
	g.mu.Lock()
	g.queue = append(g.queue, mine)
	lead := g.leaders < gatherLeaders
	if lead {
		g.leaders++
	}
	g.mu.Unlock()
	if lead {
		g.lead(ctx, s)
	}
	<-mine.done
	return mine.made, mine.err
}

// lead records what is queued until nothing is. What others have queued is not
// theirs to lose when the leader's client goes away.
func (g *gathering) lead(ctx context.Context, s *Store) {
	for {
		batch := g.take()
		if len(batch) == 0 {
			return
		}
		life, cancel := context.WithTimeout(context.WithoutCancel(ctx), gatherTime)
		s.submitGathered(life, batch)
		cancel()
		for _, one := range batch {
			close(one.done)
		}
	}
}

// take returns what one transaction records: of one principal, whose rights hold for
// all of it. Without any, the caller leads no longer.
func (g *gathering) take() []*waitingSubmission {
	g.mu.Lock()
	defer g.mu.Unlock()
	var batch, rest []*waitingSubmission
	for _, one := range g.queue {
		if len(batch) < gatherMost && (len(batch) == 0 || one.actor.Principal.ID == batch[0].actor.Principal.ID) {
			batch = append(batch, one)
		} else {
			rest = append(rest, one)
		}
	}
	g.queue = rest
	if len(batch) == 0 {
		g.leaders--
	}
	return batch
}

// submitGathered records a batch. When it fails as a whole, each is tried by itself,
// so that nobody fails for another's sake.
func (s *Store) submitGathered(ctx context.Context, batch []*waitingSubmission) {
	err := s.submitting(ctx, batch[0].actor, func(t *tx) error {
		subs := make([]*submission, len(batch))
		for i, one := range batch {
			subs[i] = &submission{CertificateRequest: one.request, id: certctl.NewID(t.now).WithOrder(i), request: &one.actor}
		}
		if err := t.submit(ctx, subs); err != nil {
			return err
		}
		for i, sub := range subs {
			batch[i].made, batch[i].err = certctl.Submitted{}, sub.err
			if sub.err == nil {
				batch[i].made = sub.submitted(t.now)
			}
		}
		return nil
	})
	if err == nil {
		return
	}
	for i, one := range batch {
		if len(batch) == 1 {
			one.made, one.err = certctl.Submitted{}, err
			return
		}
		s.submitGathered(ctx, batch[i:i+1])
	}
}
