package rest

import (
	"bytes"
	"context"
	"net/http"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

func (s *Server) health() gen.Health { return gen.Health{Status: "ok", Version: s.Version} }

// GetHealth says that this process lives.
func (s *Server) GetHealth(context.Context, gen.GetHealthRequestObject) (gen.GetHealthResponseObject, error) {
	return gen.GetHealth200JSONResponse(s.health()), nil
}

// GetLivez is an alias of GetHealth.
func (s *Server) GetLivez(context.Context, gen.GetLivezRequestObject) (gen.GetLivezResponseObject, error) {
	return gen.GetLivez200JSONResponse(s.health()), nil
}

// GetHealthz is an alias of GetHealth.
func (s *Server) GetHealthz(context.Context, gen.GetHealthzRequestObject) (gen.GetHealthzResponseObject, error) {
	return gen.GetHealthz200JSONResponse(s.health()), nil
}

func (s *Server) readiness(ctx context.Context) (gen.Ready, bool) {
	ok, checks := s.Ready(ctx)
	ready := gen.Ready{Status: "ready", Checks: checks}
	if !ok {
		ready.Status = "not ready"
	}
	return ready, ok
}

// GetReady says whether this process can serve.
func (s *Server) GetReady(ctx context.Context, _ gen.GetReadyRequestObject) (gen.GetReadyResponseObject, error) {
	ready, ok := s.readiness(ctx)
	if !ok {
		return gen.GetReady503JSONResponse(ready), nil
	}
	return gen.GetReady200JSONResponse(ready), nil
}

// GetReadyz is an alias of GetReady.
func (s *Server) GetReadyz(ctx context.Context, _ gen.GetReadyzRequestObject) (gen.GetReadyzResponseObject, error) {
	ready, ok := s.readiness(ctx)
	if !ok {
		return gen.GetReadyz503JSONResponse(ready), nil
	}
	return gen.GetReadyz200JSONResponse(ready), nil
}

// metrics is the answer that the registry's own handler writes.
type metrics struct {
	ctx     context.Context //nolint:containedctx // of the request that is answered
	handler http.Handler
}

// VisitGetMetricsResponse lets the registry answer.
func (m metrics) VisitGetMetricsResponse(w http.ResponseWriter) error {
	request, err := http.NewRequestWithContext(m.ctx, http.MethodGet, "/metrics", nil)
	if err == nil {
		m.handler.ServeHTTP(w, request)
	}
	return err
}

// GetMetrics answers Prometheus, which needs a key of a viewer.
func (s *Server) GetMetrics(ctx context.Context, _ gen.GetMetricsRequestObject) (gen.GetMetricsResponseObject, error) {
	err := certctl.Authorize(actorOf(ctx).Principal, certctl.VerbRead, certctl.Object{Kind: certctl.ObjectSystem})
	return metrics{ctx: ctx, handler: s.Metrics}, err
}

// GetOpenAPI answers with the description of this API.
func (s *Server) GetOpenAPI(context.Context, gen.GetOpenAPIRequestObject) (gen.GetOpenAPIResponseObject, error) {
	return gen.GetOpenAPI200ApplicationYamlResponse{Body: bytes.NewReader(api.Spec), ContentLength: int64(len(api.Spec))}, nil
}
