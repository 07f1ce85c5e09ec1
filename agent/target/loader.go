package target

import (
	"context"
	"time"

	"github.com/certctl/certctl"
)

// batcher is a driver that must know what is being tried.
type batcher interface {
	begin(ctx context.Context, batch []Install) error
	end(ctx context.Context, batch []Install, receipts map[certctl.ID]certctl.Receipt)
}

// loader is a driver that hears from programs whether they use a certificate.
type loader interface {
	// patience bounds the waiting of a whole batch.
	patience() time.Duration
	// await waits for those that ask for it; its error is a refusal.
	await(ctx context.Context, p place) error
	// loaded reports whether one uses what is current.
	loaded(p place) bool
}

// awaitLoaded waits for what programs say of a step. All steps of a batch have one
// deadline, and there is none on the way back: who says nothing costs that time once.
func (r *run) awaitLoaded(ctx context.Context, s *step) error {
	l, ok := r.target.driver.(loader)
	if !ok {
		return nil
	}
	if r.until.IsZero() {
		r.until = time.Now().Add(l.patience())
	}
	ctx, cancel := context.WithDeadline(ctx, r.until)
	defer cancel()
	return l.await(ctx, s.place)
}

// withoutProbe is how an installation is known that no probe has seen.
func (r *run) withoutProbe(p place) string {
	if l, ok := r.target.driver.(loader); ok && l.loaded(p) {
		return "loaded"
	}
	return "installed"
}
