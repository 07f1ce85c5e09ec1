package rest

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// RevocationStore revokes, and knows where revocations stand.
type RevocationStore interface {
	RevokeVersions(ctx context.Context, actor certctl.Actor, request certctl.RevokeRequest) ([]certctl.Version, error)
	ListRevocations(ctx context.Context, actor certctl.Actor, filter certctl.RevocationFilter) (certctl.Page[certctl.Revocation], error)
	CancelRevocation(ctx context.Context, actor certctl.Actor, version certctl.ID) (certctl.Revocation, error)
}

// RevokeCertificate revokes all unexpired versions, or one holder's.
func (s *Server) RevokeCertificate(ctx context.Context, r gen.RevokeCertificateRequestObject) (gen.RevokeCertificateResponseObject, error) {
	versions, err := s.store.RevokeVersions(ctx, actorOf(ctx), certctl.RevokeRequest{
		Certificate: r.Certificate, Holder: r.Body.Holder, Reason: revocationReason(string(r.Body.Reason)), Replace: certctl.Replacement(r.Body.Replace),
	})
	if err != nil {
		return nil, err
	}
	return gen.RevokeCertificate202JSONResponse{Items: each(versions, versionOf)}, nil
}

// RevokeVersion revokes one version, and with keyCompromise every other one
// with the same key.
func (s *Server) RevokeVersion(ctx context.Context, r gen.RevokeVersionRequestObject) (gen.RevokeVersionResponseObject, error) {
	versions, err := s.store.RevokeVersions(ctx, actorOf(ctx), certctl.RevokeRequest{
		Version: r.ID, Reason: revocationReason(string(r.Body.Reason)), Replace: certctl.Replacement(r.Body.Replace),
	})
	if err != nil {
		return nil, err
	}
	return gen.RevokeVersion202JSONResponse{Items: each(versions, versionOf)}, nil
}

func revocationReason(text string) certctl.RevocationReason {
	if text == "" {
		return certctl.ReasonUnspecified
	}
	return certctl.RevocationReason(text)
}

func revocationOf(r certctl.Revocation) gen.Revocation {
	return gen.Revocation{
		Version: r.Version, Certificate: refOf(r.Certificate), Holder: r.Holder, Serial: string(r.Serial), Issuer: r.Issuer,
		Reason: string(r.Reason), State: string(r.State), Rollout: r.Rollout, Tries: r.Tries, Message: r.Message,
		DueAt: r.DueAt, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

// ListRevocations shows one page.
func (s *Server) ListRevocations(ctx context.Context, r gen.ListRevocationsRequestObject) (gen.ListRevocationsResponseObject, error) {
	p := r.Params
	page, err := s.store.ListRevocations(ctx, actorOf(ctx), certctl.RevocationFilter{
		PageRequest: pageRequest(p.Cursor, p.Limit), Team: p.Team, Certificate: p.Certificate, State: certctl.RevocationState(p.State),
	})
	return gen.ListRevocations200JSONResponse{Items: each(page.Items, revocationOf), NextCursor: page.Next}, err
}

// CancelRevocation keeps a version good that was to be revoked once replaced.
func (s *Server) CancelRevocation(ctx context.Context, r gen.CancelRevocationRequestObject) (gen.CancelRevocationResponseObject, error) {
	revocation, err := s.store.CancelRevocation(ctx, actorOf(ctx), r.ID)
	return gen.CancelRevocation200JSONResponse(revocationOf(revocation)), err
}
