package rest

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
	"github.com/oapi-codegen/runtime/types"
)

// RenewalStore knows what holds renewals back, and what comes.
type RenewalStore interface {
	PauseCertificate(ctx context.Context, actor certctl.Actor, ref string, pause bool) (certctl.Certificate, error)
	PauseIssuer(ctx context.Context, actor certctl.Actor, ref string, pause bool) (certctl.Issuer, error)
	ExplainCertificate(ctx context.Context, actor certctl.Actor, ref string) (certctl.Explanation, error)
	PreviewRenewal(ctx context.Context, actor certctl.Actor, ref string, request certctl.RenewRequest) ([]certctl.RenewalPreview, error)
	PlannedHolders(ctx context.Context, actor certctl.Actor, filter certctl.PlanFilter) ([]certctl.PlannedHolder, error)
	// SpentBudgets are the recent uses of the budgets of an issuer's accounts, by key.
	SpentBudgets(ctx context.Context, issuer certctl.ID) (map[string][]time.Time, error)
	CreateFreeze(ctx context.Context, actor certctl.Actor, freeze certctl.Freeze) (certctl.Freeze, error)
	ListFreezes(ctx context.Context, actor certctl.Actor, all bool, page certctl.PageRequest) (certctl.Page[certctl.Freeze], error)
	EndFreeze(ctx context.Context, actor certctl.Actor, ref string) error
}

func renewRequest(body *gen.RenewRequest) certctl.RenewRequest {
	if body == nil {
		return certctl.RenewRequest{}
	}
	return certctl.RenewRequest{Holder: body.Holder, Override: body.Override}
}

// PreviewRenewal says what RenewCertificate would do.
func (s *Server) PreviewRenewal(ctx context.Context, r gen.PreviewRenewalRequestObject) (gen.PreviewRenewalResponseObject, error) {
	previews, err := s.store.PreviewRenewal(ctx, actorOf(ctx), r.Certificate, renewRequest(r.Body))
	return gen.PreviewRenewal200JSONResponse{Items: each(previews, func(p certctl.RenewalPreview) gen.RenewalPreview {
		return gen.RenewalPreview{
			Holder: p.Holder.ID, Agents: each(p.Holder.Members, refOf), Action: string(p.Action), Order: p.Order,
			Issuer: refOf(p.Issuer), NotAfter: p.NotAfter, Targets: p.Targets,
		}
	})}, err
}

// ExplainCertificate says why a certificate is or is not renewed.
func (s *Server) ExplainCertificate(ctx context.Context, r gen.ExplainCertificateRequestObject) (gen.ExplainCertificateResponseObject, error) {
	e, err := s.store.ExplainCertificate(ctx, actorOf(ctx), r.Certificate)
	if err != nil {
		return nil, err
	}
	c := e.Certificate
	out := gen.Explanation{
		Certificate: gen.Ref{ID: c.ID, Name: c.Name}, Status: string(c.Status), Paused: c.Paused, RenewalPolicy: refOf(c.RenewalPolicy),
		Issuer: gen.Ref{ID: e.Issuer.ID, Name: e.Issuer.Name}, Freezes: each(e.Freezes, freezeOf), At: e.At,
	}
	out.Holders = each(e.Holders, func(h certctl.HolderExplanation) gen.HolderExplanation {
		x := gen.HolderExplanation{
			Holder: h.Holder.ID, Kind: string(h.Holder.Kind), Agents: each(h.Holder.Members, refOf), Serial: string(h.Version.Serial),
			NotAfter: h.Version.NotAfter, RenewAt: h.Version.RenewAt, Due: h.Decision.Due, Reason: h.Decision.Reason,
			Wait: string(h.Decision.Wait), Next: h.Decision.At, Sentences: e.Sentences(h),
		}
		x.Members, x.RenewalInfo = membersOf(h.Holder), renewalInfoOf(h.Advice)
		if o := h.Order; !o.ID.IsZero() {
			x.Order = gen.OrderLink{ID: o.ID, URL: orderURL(o.ID), State: string(o.State), Wait: string(o.Wait), Message: o.Message, DueAt: o.DueAt}
		}
		return x
	})
	return gen.ExplainCertificate200JSONResponse(out), nil
}

// PreflightCertificate looks at what the CA will look at.
func (s *Server) PreflightCertificate(ctx context.Context, r gen.PreflightCertificateRequestObject) (gen.PreflightCertificateResponseObject, error) {
	actor := actorOf(ctx)
	c, err := s.store.GetCertificate(ctx, actor, r.Certificate)
	if err != nil {
		return nil, err
	}
	// It asks servers elsewhere: for those who could have it issued.
	own := certctl.Object{Kind: certctl.ObjectCertificate, Team: c.Team, Owner: c.Owner, Labels: c.Labels}
	if err := certctl.Authorize(actor.Principal, certctl.VerbIssue, own); err != nil {
		return nil, err
	}
	records, err := s.store.ListValidationRecords(ctx, actor, c.ID.String())
	if err != nil {
		return nil, err
	}
	out := gen.Preflight{Certificate: gen.Ref{ID: c.ID, Name: c.Name}, Ok: true, Issuers: []gen.IssuerPreflight{}}
	for _, ref := range c.Issuers {
		// The certificate is theirs, its issuer may be the default team's.
		i, err := s.store.GetIssuer(ctx, certctl.SystemActor("api"), ref.ID.String())
		if err != nil {
			return nil, err
		}
		checks, err := s.Issuers.Preflight(ctx, i, c.Names, records)
		if err != nil {
			return nil, err
		}
		one := gen.IssuerPreflight{Issuer: refOf(ref), Ok: true, Checks: each(checks, func(p certctl.PreflightCheck) gen.PreflightCheck {
			return gen.PreflightCheck{Name: p.Name, Check: p.Check, Ok: p.OK, Message: p.Message, Remedy: p.Remedy}
		})}
		for _, check := range checks {
			one.Ok = one.Ok && check.OK
		}
		out.Ok, out.Issuers = out.Ok && one.Ok, append(out.Issuers, one)
	}
	return gen.PreflightCertificate200JSONResponse(out), nil
}

func renewalInfoOf(a certctl.RenewalAdvice) gen.RenewalInfo {
	return gen.RenewalInfo{
		WindowStart: a.Window.Start, WindowEnd: a.Window.End, PolicyAt: a.PolicyAt, RecalledAt: a.RecalledAt,
		ExplanationURL: a.ExplanationURL, CheckedAt: a.CheckedAt, Message: a.Message,
	}
}

// PauseCertificate stops work on one.
func (s *Server) PauseCertificate(ctx context.Context, r gen.PauseCertificateRequestObject) (gen.PauseCertificateResponseObject, error) {
	certificate, err := s.store.PauseCertificate(ctx, actorOf(ctx), r.Certificate, true)
	return gen.PauseCertificate200JSONResponse(certificateOf(certificate)), err
}

// ResumeCertificate has it go on.
func (s *Server) ResumeCertificate(ctx context.Context, r gen.ResumeCertificateRequestObject) (gen.ResumeCertificateResponseObject, error) {
	certificate, err := s.store.PauseCertificate(ctx, actorOf(ctx), r.Certificate, false)
	return gen.ResumeCertificate200JSONResponse(certificateOf(certificate)), err
}

// PauseIssuer keeps an issuer from being asked.
func (s *Server) PauseIssuer(ctx context.Context, r gen.PauseIssuerRequestObject) (gen.PauseIssuerResponseObject, error) {
	issuer, err := s.store.PauseIssuer(ctx, actorOf(ctx), r.Issuer, true)
	return gen.PauseIssuer200JSONResponse(issuerOf(issuer)), err
}

// ResumeIssuer has it asked again.
func (s *Server) ResumeIssuer(ctx context.Context, r gen.ResumeIssuerRequestObject) (gen.ResumeIssuerResponseObject, error) {
	issuer, err := s.store.PauseIssuer(ctx, actorOf(ctx), r.Issuer, false)
	return gen.ResumeIssuer200JSONResponse(issuerOf(issuer)), err
}

func freezeOf(f certctl.Freeze) gen.Freeze {
	return gen.Freeze{
		ID: f.ID, Name: f.Name, Reason: f.Reason, Labels: f.Labels, Hard: f.Hard, StartsAt: f.StartsAt, EndsAt: f.EndsAt,
		EndedAt: f.EndedAt, CreatedBy: f.Creator, CreatedAt: f.Created,
	}
}

// CreateFreeze begins one.
func (s *Server) CreateFreeze(ctx context.Context, r gen.CreateFreezeRequestObject) (gen.CreateFreezeResponseObject, error) {
	b := r.Body
	freeze, err := s.store.CreateFreeze(ctx, actorOf(ctx), certctl.Freeze{
		Name: b.Name, Reason: b.Reason, Labels: b.Labels, Hard: b.Hard, StartsAt: b.StartsAt, EndsAt: b.EndsAt,
	})
	return gen.CreateFreeze201JSONResponse{
		Body: freezeOf(freeze), Headers: gen.CreateFreeze201ResponseHeaders{Location: "/api/v1/freezes/" + freeze.ID.String()},
	}, err
}

// ListFreezes shows one page.
func (s *Server) ListFreezes(ctx context.Context, r gen.ListFreezesRequestObject) (gen.ListFreezesResponseObject, error) {
	page, err := s.store.ListFreezes(ctx, actorOf(ctx), r.Params.All, pageRequest(r.Params.Cursor, r.Params.Limit))
	return gen.ListFreezes200JSONResponse{Items: each(page.Items, freezeOf), NextCursor: page.Next}, err
}

// EndFreeze ends one.
func (s *Server) EndFreeze(ctx context.Context, r gen.EndFreezeRequestObject) (gen.EndFreezeResponseObject, error) {
	return gen.EndFreeze204Response{}, s.store.EndFreeze(ctx, actorOf(ctx), r.Freeze)
}

// GetRenewalPlan simulates what comes.
func (s *Server) GetRenewalPlan(ctx context.Context, r gen.GetRenewalPlanRequestObject) (gen.GetRenewalPlanResponseObject, error) {
	p := r.Params
	labels, err := labelFilter(p.Label)
	if err != nil {
		return nil, err
	}
	holders, err := s.store.PlannedHolders(ctx, actorOf(ctx), certctl.PlanFilter{Team: p.Team, Issuer: p.Issuer, Label: labels})
	if err != nil {
		return nil, err
	}
	spent, err := s.planBudgets(ctx, holders)
	if err != nil {
		return nil, err
	}
	plan := certctl.PlanRenewals(holders, spent, s.Now().UTC(), p.Days)
	out := gen.RenewalPlan{From: plan.From, Until: plan.Until, Keys: plan.Keys, Renewals: plan.Renewals}
	out.Days = each(plan.Days, func(d certctl.PlanDay) gen.PlanDay {
		return gen.PlanDay{Date: types.Date{Time: d.Date}, Issuer: d.Issuer.Name, Renewals: d.Renewals}
	})
	out.Findings = each(plan.Findings, func(f certctl.PlanFinding) gen.PlanFinding {
		return gen.PlanFinding{Kind: string(f.Kind), Name: f.Object.Name, ID: f.Object.ID, Date: f.Date, Message: f.Message}
	})
	out.Rules = comingRules(plan.From, plan.Until)
	return gen.GetRenewalPlan200JSONResponse(out), nil
}

// comingRules are the limits of public CAs that come into force in a time.
func comingRules(from, until time.Time) []gen.PublicRule {
	coming := slices.DeleteFunc(certctl.PublicRules(), func(rule certctl.PublicRule) bool {
		return !rule.From.After(from) || rule.From.After(until)
	})
	return each(coming, func(rule certctl.PublicRule) gen.PublicRule {
		return gen.PublicRule{From: rule.From, MaxValidity: rule.MaxValidity.String(), Source: rule.Source}
	})
}

func windowOf(w certctl.Window) gen.Window {
	return gen.Window{Cron: w.Cron, Duration: w.Duration.String(), TimeZone: w.TimeZone}
}

// windows reads change windows.
func windows(bad *certctl.FieldErrors, field string, all []gen.Window) []certctl.Window {
	var out []certctl.Window
	for i, w := range all {
		duration, err := certctl.ParseDuration(w.Duration)
		bad.AddError(field+"/"+strconv.Itoa(i)+"/duration", err)
		out = append(out, certctl.Window{Cron: w.Cron, Duration: duration, TimeZone: w.TimeZone})
	}
	return out
}

// planBudgets adds to the holders which budgets their leaves come under, and
// returns what has been used of them.
func (s *Server) planBudgets(ctx context.Context, holders []certctl.PlannedHolder) (certctl.Spent, error) {
	spent := certctl.Spent{}
	uses := map[certctl.ID]func(certctl.Names, bool) []certctl.BudgetUse{}
	for i := range holders {
		h := &holders[i]
		if _, known := uses[h.Issuer.ID]; !known {
			// Settings that a newer release has written are no reason to have no plan.
			uses[h.Issuer.ID], _ = s.Issuers.Budgets(h.Kind, h.Settings)
			if uses[h.Issuer.ID] == nil {
				continue
			}
			used, err := s.store.SpentBudgets(ctx, h.Issuer.ID)
			if err != nil {
				return nil, err
			}
			spent[h.Issuer] = used
		}
		if of := uses[h.Issuer.ID]; of != nil {
			h.New, h.Again = of(h.Names, false), of(h.Names, true)
		}
	}
	return spent, nil
}
