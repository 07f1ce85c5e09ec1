package targettest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/certctl/certctl/agent/probe"
	"github.com/certctl/certctl/agent/target"
)

// servesThrough keeps shaking hands while certificates are switched: a kind that
// says that it is hitless loses none.
func (s *suite) servesThrough() {
	kinds := s.table()
	kind := kinds[slices.IndexFunc(kinds, func(d target.Descriptor) bool { return d.Kind == s.daemon.Spec.Kind })]
	first := s.next()
	s.installed(first, s.apply(first)[0])
	if s.daemon.Address == "" || !kind.Hitless {
		return
	}
	ctx, stop := context.WithCancel(s.Context())
	var group sync.WaitGroup
	var handshakes, failed int
	var lost error
	group.Go(func() {
		for ctx.Err() == nil {
			handshakes++
			if err := s.handshake(ctx); err != nil && ctx.Err() == nil {
				failed++
				lost = errors.Join(lost, err)
			}
		}
	})
	for range 5 {
		next := s.next()
		s.installed(next, s.apply(next)[0])
	}
	stop()
	group.Wait()
	if failed > 0 || handshakes < 10 {
		s.Errorf("%d of %d handshakes failed: %v", failed, handshakes, lost)
	}
}

func (s *suite) handshake(ctx context.Context) error {
	_, err := probe.TLS(ctx, s.daemon.Address, host)
	return err
}
