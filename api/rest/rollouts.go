package rest

import (
	"context"
	"strconv"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// RolloutStore changes many certificates at once.
type RolloutStore interface {
	CreateRollout(ctx context.Context, actor certctl.Actor, request certctl.RolloutRequest, idem certctl.Idempotency) (certctl.Rollout, error)
	GetRollout(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Rollout, error)
	ListRollouts(ctx context.Context, actor certctl.Actor, filter certctl.RolloutFilter) (certctl.Page[certctl.Rollout], error)
	StopRollout(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Rollout, error)
	ResumeRollout(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Rollout, error)
	CancelRollout(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Rollout, error)
}

// rolloutRequest reads what both kinds of mass change have in common.
func rolloutRequest(b gen.RolloutRequest) (certctl.RolloutRequest, error) {
	request := certctl.RolloutRequest{
		Selection: certctl.Selection{
			Team: b.Team, Issuer: b.Issuer, Authority: b.Authority, Profile: b.Profile, Certificate: b.Certificate, Agent: b.Agent,
			Label: b.Labels, IssuedBefore: b.IssuedBefore,
		},
		Reason: b.Why, Override: b.Override, Deadline: b.Deadline, DryRun: b.DryRun,
		Pace: certctl.RolloutPace{Canary: b.Canary, Growth: b.Growth, Threshold: b.Threshold, Least: b.Least},
	}
	var bad certctl.FieldErrors
	for i, text := range b.Serials {
		serial, err := certctl.ParseSerial(text)
		bad.AddError("/serials/"+strconv.Itoa(i), err)
		request.Selection.Serials = append(request.Selection.Serials, serial)
	}
	if b.Patience != "" {
		var err error
		request.Pace.Patience, err = certctl.ParseDuration(b.Patience)
		bad.AddError("/patience", err)
	}
	return request, bad.Err()
}

func rolloutOf(r certctl.Rollout) gen.Rollout {
	out := gen.Rollout{
		ID: r.ID, Team: r.Team, State: string(r.State), Message: r.Message, Why: r.Reason, Override: r.Override, Reason: string(r.Revoke),
		Replace: string(r.Replace), Total: r.Total, Replaced: r.Plan.Size(), Deadline: r.Deadline, Rate: r.Plan.Rate,
		DueAt: r.DueAt, CreatedBy: r.Creator, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, ClosedAt: r.ClosedAt,
	}
	if len(r.Plan.Waves) > 0 {
		out.Wave, out.Patience = r.Wave+1, r.Plan.Patience.String()
	}
	out.Waves = each(r.Waves, func(w certctl.RolloutWave) gen.RolloutWave {
		return gen.RolloutWave{Items: w.Items, Pending: w.Pending, Ordered: w.Ordered, Done: w.Done, Failed: w.Failed, Skipped: w.Skipped}
	})
	out.Problems = each(r.Problems, func(p certctl.RolloutProblem) gen.RolloutProblem {
		return gen.RolloutProblem{Certificate: refOf(p.Certificate), Holder: p.Holder, Message: p.Message}
	})
	return out
}

func rolloutURL(id certctl.ID) string { return "/api/v1/rollouts/" + id.String() }

// CreateRollout begins one, or only plans it.
func (s *Server) CreateRollout(ctx context.Context, r gen.CreateRolloutRequestObject) (gen.CreateRolloutResponseObject, error) {
	rollout, err := s.createRollout(ctx, *r.Body, r.Params.IdempotencyKey, "", "")
	if r.Body.DryRun {
		return gen.CreateRollout200JSONResponse(rolloutOf(rollout)), err
	}
	return gen.CreateRollout201JSONResponse{
		Body: rolloutOf(rollout), Headers: gen.CreateRollout201ResponseHeaders{Location: rolloutURL(rollout.ID)},
	}, err
}

// BulkRevoke begins one that revokes.
func (s *Server) BulkRevoke(ctx context.Context, r gen.BulkRevokeRequestObject) (gen.BulkRevokeResponseObject, error) {
	b := r.Body
	rollout, err := s.createRollout(ctx, gen.RolloutRequest{
		Why: b.Why, Team: b.Team, Issuer: b.Issuer, Authority: b.Authority, Profile: b.Profile, Certificate: b.Certificate, Agent: b.Agent,
		Labels: b.Labels, Serials: b.Serials, IssuedBefore: b.IssuedBefore, Deadline: b.Deadline, Canary: b.Canary, Growth: b.Growth,
		Patience: b.Patience, Threshold: b.Threshold, Least: b.Least, Override: b.Override, DryRun: b.DryRun,
	}, r.Params.IdempotencyKey, revocationReason(string(b.Reason)), certctl.Replacement(b.Replace))
	if b.DryRun {
		return gen.BulkRevoke200JSONResponse(rolloutOf(rollout)), err
	}
	return gen.BulkRevoke202JSONResponse{
		Body: rolloutOf(rollout), Headers: gen.BulkRevoke202ResponseHeaders{Location: rolloutURL(rollout.ID)},
	}, err
}

func (s *Server) createRollout(ctx context.Context, b gen.RolloutRequest, key string, reason certctl.RevocationReason, replace certctl.Replacement) (certctl.Rollout, error) {
	request, err := rolloutRequest(b)
	if err != nil {
		return certctl.Rollout{}, err
	}
	request.Revoke, request.Replace = reason, replace
	idem, err := idempotency(key, "createRollout/"+string(reason)+"/"+string(replace), b)
	if err != nil {
		return certctl.Rollout{}, err
	}
	return s.store.CreateRollout(ctx, actorOf(ctx), request, idem)
}

// GetRollout shows one.
func (s *Server) GetRollout(ctx context.Context, r gen.GetRolloutRequestObject) (gen.GetRolloutResponseObject, error) {
	rollout, err := s.store.GetRollout(ctx, actorOf(ctx), r.ID)
	return gen.GetRollout200JSONResponse(rolloutOf(rollout)), err
}

// ListRollouts shows one page.
func (s *Server) ListRollouts(ctx context.Context, r gen.ListRolloutsRequestObject) (gen.ListRolloutsResponseObject, error) {
	p := r.Params
	page, err := s.store.ListRollouts(ctx, actorOf(ctx), certctl.RolloutFilter{
		PageRequest: pageRequest(p.Cursor, p.Limit), Team: p.Team, State: certctl.RolloutState(p.State),
	})
	return gen.ListRollouts200JSONResponse{Items: each(page.Items, rolloutOf), NextCursor: page.Next}, err
}

// StopRollout holds one.
func (s *Server) StopRollout(ctx context.Context, r gen.StopRolloutRequestObject) (gen.StopRolloutResponseObject, error) {
	rollout, err := s.store.StopRollout(ctx, actorOf(ctx), r.ID)
	return gen.StopRollout200JSONResponse(rolloutOf(rollout)), err
}

// ResumeRollout has one go on.
func (s *Server) ResumeRollout(ctx context.Context, r gen.ResumeRolloutRequestObject) (gen.ResumeRolloutResponseObject, error) {
	rollout, err := s.store.ResumeRollout(ctx, actorOf(ctx), r.ID)
	return gen.ResumeRollout200JSONResponse(rolloutOf(rollout)), err
}

// CancelRollout ends one.
func (s *Server) CancelRollout(ctx context.Context, r gen.CancelRolloutRequestObject) (gen.CancelRolloutResponseObject, error) {
	rollout, err := s.store.CancelRollout(ctx, actorOf(ctx), r.ID)
	return gen.CancelRollout200JSONResponse(rolloutOf(rollout)), err
}
