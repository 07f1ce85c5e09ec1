package rest

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// TrialStore keeps tests of certificates.
type TrialStore interface {
	StartTrial(ctx context.Context, actor certctl.Actor, request certctl.TrialRequest, staging certctl.Staging) (certctl.Trial, error)
	GetTrial(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Trial, error)
	ListTrials(ctx context.Context, actor certctl.Actor, ref string) ([]certctl.Trial, error)
}

func trialOf(x certctl.Trial) gen.CertificateTest {
	out := gen.CertificateTest{
		ID: x.ID, Name: x.Name, Team: x.Team, Issuer: refOf(x.Issuer), Directory: x.Directory, DNSNames: x.Names.DNS,
		Outcome: string(x.Outcome), Wait: string(x.Wait), ErrorCode: x.ErrorCode, Message: x.Message, CreatedAt: x.CreatedAt, EndedAt: x.EndedAt,
	}
	if !x.Certificate.ID.IsZero() {
		out.Certificate = refOf(x.Certificate)
	}
	for _, addr := range x.Names.IP {
		out.IPAddresses = append(out.IPAddresses, addr.String())
	}
	out.Steps = each(x.Steps, func(s certctl.TrialStep) gen.CertificateTestStep {
		return gen.CertificateTestStep{Step: s.Step, At: s.At}
	})
	return out
}

func trialURL(id certctl.ID) string { return "/api/v1/certificate-tests/" + id.String() }

// TestCertificate has one tested. Its 202 comes after the commit.
func (s *Server) TestCertificate(ctx context.Context, r gen.TestCertificateRequestObject) (gen.TestCertificateResponseObject, error) {
	c, err := s.store.GetCertificate(ctx, actorOf(ctx), r.Certificate)
	if err != nil {
		return nil, err
	}
	request := certctl.TrialRequest{Certificate: c.ID}
	if r.Body != nil {
		request.Issuer = r.Body.Issuer
	}
	trial, err := s.store.StartTrial(ctx, actorOf(ctx), request, s.Issuers.Staging)
	if err != nil {
		return nil, err
	}
	return gen.TestCertificate202JSONResponse{
		Body: trialOf(trial), Headers: gen.TestCertificate202ResponseHeaders{Location: trialURL(trial.ID)},
	}, nil
}

// TestNewCertificate has one tested that is not made yet, at the first of its
// issuers.
func (s *Server) TestNewCertificate(ctx context.Context, r gen.TestNewCertificateRequestObject) (gen.TestNewCertificateResponseObject, error) {
	request, err := certificateRequest(*r.Body)
	if err != nil {
		return nil, err
	}
	if len(request.Issuers) == 0 {
		return nil, certctl.InvalidField("/issuer", "says who is to be asked: without one there is nothing to test")
	}
	trial, err := s.store.StartTrial(ctx, actorOf(ctx), certctl.TrialRequest{New: &request}, s.Issuers.Staging)
	if err != nil {
		return nil, err
	}
	return gen.TestNewCertificate202JSONResponse{
		Body: trialOf(trial), Headers: gen.TestNewCertificate202ResponseHeaders{Location: trialURL(trial.ID)},
	}, nil
}

// GetCertificateTest shows one.
func (s *Server) GetCertificateTest(ctx context.Context, r gen.GetCertificateTestRequestObject) (gen.GetCertificateTestResponseObject, error) {
	trial, err := s.store.GetTrial(ctx, actorOf(ctx), r.Test)
	if err != nil {
		return nil, err
	}
	return gen.GetCertificateTest200JSONResponse(trialOf(trial)), nil
}

// ListCertificateTests shows the last ones of a certificate.
func (s *Server) ListCertificateTests(ctx context.Context, r gen.ListCertificateTestsRequestObject) (gen.ListCertificateTestsResponseObject, error) {
	trials, err := s.store.ListTrials(ctx, actorOf(ctx), r.Certificate)
	if err != nil {
		return nil, err
	}
	return gen.ListCertificateTests200JSONResponse{Items: each(trials, trialOf)}, nil
}
