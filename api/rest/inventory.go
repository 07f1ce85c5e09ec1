package rest

import (
	"context"
	"encoding/json"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// InventoryStore holds where certificates go and where they come from.
type InventoryStore interface {
	CreateTarget(ctx context.Context, actor certctl.Actor, request certctl.TargetRequest) (certctl.Target, error)
	GetTarget(ctx context.Context, actor certctl.Actor, ref string) (certctl.Target, error)
	ListTargets(ctx context.Context, actor certctl.Actor, filter certctl.TargetFilter) (certctl.Page[certctl.Target], error)
	UpdateTarget(ctx context.Context, actor certctl.Actor, ref string, request certctl.TargetRequest) (certctl.Target, error)
	ArchiveTarget(ctx context.Context, actor certctl.Actor, ref string) error
	TestTarget(ctx context.Context, actor certctl.Actor, ref string) (certctl.TargetTest, error)
	CreateIssuer(ctx context.Context, actor certctl.Actor, request certctl.IssuerRequest) (certctl.Issuer, error)
	GetIssuer(ctx context.Context, actor certctl.Actor, ref string) (certctl.Issuer, error)
	ListIssuers(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.Issuer], error)
	UpdateIssuer(ctx context.Context, actor certctl.Actor, ref string, request certctl.IssuerRequest) (certctl.Issuer, error)
	ArchiveIssuer(ctx context.Context, actor certctl.Actor, ref string) error
}

// TargetKinds knows which settings each kind of target has, and how far it was proven.
type TargetKinds interface {
	Validate(kind string, settings json.RawMessage) error
	Experimental(kind string) bool
}

// named filters a list by team.
func named(cursor string, limit int, team string) certctl.NamedFilter {
	return certctl.NamedFilter{PageRequest: pageRequest(cursor, limit), Team: team}
}

// object encodes settings for their kind to read.
func object(settings map[string]any) (json.RawMessage, error) {
	if settings == nil {
		return json.RawMessage("{}"), nil
	}
	encoded, err := json.Marshal(settings)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the settings cannot be encoded")
	}
	return encoded, nil
}

// fields decodes settings for the answer.
func fields(settings json.RawMessage) map[string]any {
	var out map[string]any
	_ = json.Unmarshal(settings, &out) // the store holds objects only
	return out
}

// testOf shows a test; nothing where there was none.
func (s *Server) testOf(t certctl.TargetTest) gen.TargetTest {
	if t.ID.IsZero() {
		return gen.TargetTest{}
	}
	return gen.TargetTest{
		ID: t.ID, State: string(t.State(s.Now())), Revision: t.Revision, RequestedAt: t.RequestedAt, NotAfter: t.NotAfter,
		FinishedAt: t.FinishedAt, Receipt: t.Receipt, Steps: each(t.Steps, func(step certctl.TestStep) gen.TargetTestStep {
			return gen.TargetTestStep{
				Binding: step.Binding, Step: step.Step, Subject: step.Subject, State: string(step.State), Message: step.Message, Remedy: step.Remedy,
			}
		}),
	}
}

// TestTarget asks the target's agent to try it.
func (s *Server) TestTarget(ctx context.Context, r gen.TestTargetRequestObject) (gen.TestTargetResponseObject, error) {
	test, err := s.store.TestTarget(ctx, actorOf(ctx), r.Target)
	return gen.TestTarget202JSONResponse(s.testOf(test)), err
}

func (s *Server) targetOf(t certctl.Target) gen.Target {
	return gen.Target{
		ID: t.ID, Name: t.Name, Team: t.Team, Agent: refOf(t.Agent), Kind: t.Kind, Experimental: s.Targets.Experimental(t.Kind),
		Settings: fields(t.Settings), Revision: t.Revision, Labels: t.Labels, CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
	}
}

// targetRequest reads a target; its kind judges the settings.
func (s *Server) targetRequest(b gen.TargetRequest) (certctl.TargetRequest, error) {
	request := certctl.TargetRequest{Team: b.Team, Name: b.Name, Agent: b.Agent, Kind: b.Kind, Labels: b.Labels}
	var err error
	if request.Settings, err = object(b.Settings); err != nil {
		return request, err
	}
	return request, s.Targets.Validate(b.Kind, request.Settings)
}

// CreateTarget makes one.
func (s *Server) CreateTarget(ctx context.Context, r gen.CreateTargetRequestObject) (gen.CreateTargetResponseObject, error) {
	request, err := s.targetRequest(*r.Body)
	if err != nil {
		return nil, err
	}
	target, err := s.store.CreateTarget(ctx, actorOf(ctx), request)
	return gen.CreateTarget201JSONResponse{
		Body: s.targetOf(target), Headers: gen.CreateTarget201ResponseHeaders{Location: "/api/v1/targets/" + target.ID.String()},
	}, err
}

// GetTarget shows one.
func (s *Server) GetTarget(ctx context.Context, r gen.GetTargetRequestObject) (gen.GetTargetResponseObject, error) {
	target, err := s.store.GetTarget(ctx, actorOf(ctx), r.Target)
	out := s.targetOf(target)
	out.Test = s.testOf(target.Test)
	return gen.GetTarget200JSONResponse(out), err
}

// ListTargets shows one page.
func (s *Server) ListTargets(ctx context.Context, r gen.ListTargetsRequestObject) (gen.ListTargetsResponseObject, error) {
	p := r.Params
	page, err := s.store.ListTargets(ctx, actorOf(ctx), certctl.TargetFilter{
		PageRequest: pageRequest(p.Cursor, p.Limit), Team: p.Team, Agent: p.Agent, Kind: p.Kind,
	})
	return gen.ListTargets200JSONResponse{Items: each(page.Items, s.targetOf), NextCursor: page.Next}, err
}

// UpdateTarget replaces one's settings; what it serves is then brought there anew.
func (s *Server) UpdateTarget(ctx context.Context, r gen.UpdateTargetRequestObject) (gen.UpdateTargetResponseObject, error) {
	request, err := s.targetRequest(*r.Body)
	if err != nil {
		return nil, err
	}
	target, err := s.store.UpdateTarget(ctx, actorOf(ctx), r.Target, request)
	return gen.UpdateTarget200JSONResponse(s.targetOf(target)), err
}

// ArchiveTarget ends one that nothing is bound to.
func (s *Server) ArchiveTarget(ctx context.Context, r gen.ArchiveTargetRequestObject) (gen.ArchiveTargetResponseObject, error) {
	return gen.ArchiveTarget204Response{}, s.store.ArchiveTarget(ctx, actorOf(ctx), r.Target)
}
