package rest

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// GuardStore keeps changes from re-issuing too much at once.
type GuardStore interface {
	GetGuard(ctx context.Context, actor certctl.Actor) (certctl.Guard, error)
	ReleaseGuard(ctx context.Context, actor certctl.Actor) (int, error)
}

// GetGuard shows whether it holds.
func (s *Server) GetGuard(ctx context.Context, _ gen.GetGuardRequestObject) (gen.GetGuardResponseObject, error) {
	g, err := s.store.GetGuard(ctx, actorOf(ctx))
	return gen.GetGuard200JSONResponse{
		Share: g.Share, Least: g.Least, Fleet: g.Fleet, Changed: g.Changed, Holding: !g.HeldAt.IsZero(), HeldAt: g.HeldAt, Waiting: g.Waiting,
	}, err
}

// ReleaseGuard lets go what it holds.
func (s *Server) ReleaseGuard(ctx context.Context, _ gen.ReleaseGuardRequestObject) (gen.ReleaseGuardResponseObject, error) {
	n, err := s.store.ReleaseGuard(ctx, actorOf(ctx))
	return gen.ReleaseGuard200JSONResponse{Released: n}, err
}
