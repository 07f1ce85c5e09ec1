package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Service is something that runs: a [Process], a [Postgres], an [Nginx].
type Service interface {
	Done() <-chan struct{}
	Name() string
	Stop(ctx context.Context) error
}

// Stack holds services in the order of their start. The zero value is empty. It
// belongs to one goroutine.
type Stack struct {
	services []Service
}

// Push adds a service that has been started.
func (s *Stack) Push(service Service) { s.services = append(s.services, service) }

// Stop stops all services, the newest first, each completely before the next,
// and returns what went wrong. The stack is empty afterwards.
func (s *Stack) Stop(ctx context.Context) error {
	var failures []error
	for _, service := range slices.Backward(s.services) {
		failures = append(failures, service.Stop(ctx))
	}
	s.services = nil
	return errors.Join(failures...)
}

// Wait returns nil when the context is done, or an error that names the first
// service that ended by itself.
func (s *Stack) Wait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	ended := make(chan string, len(s.services))
	for _, service := range s.services {
		go func() {
			select {
			case <-service.Done():
				ended <- service.Name()
			case <-ctx.Done():
			}
		}()
	}
	select {
	case name := <-ended:
		return fmt.Errorf("%s ended by itself", name)
	case <-ctx.Done():
		return nil
	}
}
