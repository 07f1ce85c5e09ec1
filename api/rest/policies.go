package rest

import (
	"context"
	"strconv"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

func policyOf(p certctl.RenewalPolicy) gen.RenewalPolicy {
	out := gen.RenewalPolicy{
		ID: p.ID, Name: p.Name, Team: p.Team, Description: p.Description, AutoRenew: p.AutoRenew,
		Fraction: p.Fraction, Jitter: p.Jitter,
		AlertBefore: each(p.AlertBefore, certctl.Duration.String), CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
		IssueWindows: each(p.IssueWindows, windowOf), DeployWindows: each(p.DeployWindows, windowOf),
	}
	out.DeployWaves = deployWavesOf(p.DeployWaves)
	out.Drift = string(p.Drift)
	if p.FailoverAfter != 0 {
		out.FailoverAfter = p.FailoverAfter.String()
	}
	if p.Before != 0 {
		out.Before = p.Before.String()
	}
	return out
}

func policyRequest(b gen.RenewalPolicyRequest) (certctl.RenewalPolicy, error) {
	policy := certctl.RenewalPolicy{
		Team: b.Team, Name: b.Name, Description: b.Description, AutoRenew: b.AutoRenew,
		Fraction: b.Fraction, Jitter: b.Jitter, Drift: certctl.DriftAction(b.Drift),
	}
	var bad certctl.FieldErrors
	var err error
	if b.Before != "" {
		policy.Before, err = certctl.ParseDuration(b.Before)
		bad.AddError("/before", err)
	}
	if b.FailoverAfter != "" {
		policy.FailoverAfter, err = certctl.ParseDuration(b.FailoverAfter)
		bad.AddError("/failover_after", err)
	}
	for i, text := range b.AlertBefore {
		alert, err := certctl.ParseDuration(text)
		bad.AddError("/alert_before/"+strconv.Itoa(i), err)
		policy.AlertBefore = append(policy.AlertBefore, alert)
	}
	policy.IssueWindows = windows(&bad, "/issue_windows", b.IssueWindows)
	policy.DeployWindows = windows(&bad, "/deploy_windows", b.DeployWindows)
	policy.DeployWaves = deployWaves(&bad, b.DeployWaves)
	return policy, bad.Err()
}

func deployWavesOf(w certctl.DeployWaves) gen.DeployWaves {
	out := gen.DeployWaves{Canary: w.Canary, Share: w.Share}
	if w.Pause != 0 {
		out.Pause = w.Pause.String()
	}
	return out
}

func deployWaves(bad *certctl.FieldErrors, b gen.DeployWaves) certctl.DeployWaves {
	waves := certctl.DeployWaves{Canary: b.Canary, Share: b.Share}
	if b.Pause != "" {
		var err error
		waves.Pause, err = certctl.ParseDuration(b.Pause)
		bad.AddError("/deploy_waves/pause", err)
	}
	return waves
}

// CreateRenewalPolicy makes one.
func (s *Server) CreateRenewalPolicy(ctx context.Context, r gen.CreateRenewalPolicyRequestObject) (gen.CreateRenewalPolicyResponseObject, error) {
	policy, err := policyRequest(*r.Body)
	if err != nil {
		return nil, err
	}
	policy, err = s.store.CreateRenewalPolicy(ctx, actorOf(ctx), policy)
	return gen.CreateRenewalPolicy201JSONResponse{
		Body: policyOf(policy), Headers: gen.CreateRenewalPolicy201ResponseHeaders{Location: "/api/v1/renewal-policies/" + policy.ID.String()},
	}, err
}

// GetRenewalPolicy shows one.
func (s *Server) GetRenewalPolicy(ctx context.Context, r gen.GetRenewalPolicyRequestObject) (gen.GetRenewalPolicyResponseObject, error) {
	policy, err := s.store.GetRenewalPolicy(ctx, actorOf(ctx), r.Policy)
	return gen.GetRenewalPolicy200JSONResponse(policyOf(policy)), err
}

// ListRenewalPolicies shows one page.
func (s *Server) ListRenewalPolicies(ctx context.Context, r gen.ListRenewalPoliciesRequestObject) (gen.ListRenewalPoliciesResponseObject, error) {
	p := r.Params
	page, err := s.store.ListRenewalPolicies(ctx, actorOf(ctx), named(p.Cursor, p.Limit, p.Team))
	return gen.ListRenewalPolicies200JSONResponse{Items: each(page.Items, policyOf), NextCursor: page.Next}, err
}

// UpdateRenewalPolicy replaces one; versions keep the renewal date that they have.
func (s *Server) UpdateRenewalPolicy(ctx context.Context, r gen.UpdateRenewalPolicyRequestObject) (gen.UpdateRenewalPolicyResponseObject, error) {
	policy, err := policyRequest(*r.Body)
	if err != nil {
		return nil, err
	}
	policy, err = s.store.UpdateRenewalPolicy(ctx, actorOf(ctx), r.Policy, policy)
	return gen.UpdateRenewalPolicy200JSONResponse(policyOf(policy)), err
}

// ArchiveRenewalPolicy ends one that nothing uses.
func (s *Server) ArchiveRenewalPolicy(ctx context.Context, r gen.ArchiveRenewalPolicyRequestObject) (gen.ArchiveRenewalPolicyResponseObject, error) {
	return gen.ArchiveRenewalPolicy204Response{}, s.store.ArchiveRenewalPolicy(ctx, actorOf(ctx), r.Policy)
}
