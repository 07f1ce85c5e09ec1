package rest

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"slices"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// IssuerKinds knows which settings and secrets each kind of issuer has.
type IssuerKinds interface {
	Validate(kind string, settings json.RawMessage) error
	Secrets(kind string) []string
	// Directory returns the server at which an issuer has an account; "" for kinds
	// that have none.
	Directory(kind string, settings json.RawMessage) (string, error)
	Trust(kind string) certctl.TrustClass
	Duplicates(kind string) certctl.Rate
	Priced(kind string) bool
	// Budgets returns which budgets of an issuer's account leaves for names come under;
	// nil where its kind has none.
	Budgets(kind string, settings json.RawMessage) (func(names certctl.Names, renewal bool) []certctl.BudgetUse, error)
	// Staging returns an issuer as certificates are tested with it, and the directory
	// that is asked then.
	Staging(issuer certctl.Issuer) (certctl.Issuer, string, error)
	// Preflight looks at what an issuer's CA will look at before it issues.
	Preflight(ctx context.Context, issuer certctl.Issuer, names certctl.Names, records []certctl.ValidationRecord) ([]certctl.PreflightCheck, error)
}

func issuerOf(i certctl.Issuer) gen.Issuer {
	out := gen.Issuer{
		ID: i.ID, Name: i.Name, Team: i.Team, Kind: i.Kind, Settings: fields(i.Settings), Trust: string(i.Trust),
		Concurrency: i.Concurrency, Health: string(i.Health), HealthReason: i.HealthReason, Paused: i.Paused,
		Authorities: each(i.Authorities, authorityOf), DownSince: i.DownSince, CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt,
	}
	if i.Rate.Count > 0 {
		out.Rate = gen.Rate{Requests: i.Rate.Count, Per: i.Rate.Per.String()}
	}
	if i.Duplicates.Count > 0 {
		out.Duplicates = gen.Duplicates{Leaves: i.Duplicates.Count, Per: i.Duplicates.Per.String()}
	}
	out.Priced = i.Priced
	return out
}

func authorityOf(a certctl.Authority) gen.Authority {
	out := gen.Authority{
		ID: a.ID, State: string(a.State), PkiURL: a.PKIURL, Shards: a.Shards, NotBefore: a.NotBefore, NotAfter: a.NotAfter,
	}
	if certificate, err := x509.ParseCertificate(a.Certificate); err == nil { // one that is requested has none
		out.Subject, out.FingerprintSha256 = certificate.Subject.String(), certctl.DigestOf(a.Certificate).String()
	}
	return out
}

// issuerRequest reads an issuer; its kind judges settings and secrets, which are
// sealed for the issuer with this id.
func (s *Server) issuerRequest(id certctl.ID, b gen.IssuerRequest) (certctl.IssuerRequest, error) {
	request := certctl.IssuerRequest{
		ID: id, Team: b.Team, Name: b.Name, Kind: b.Kind, Trust: certctl.TrustClass(b.Trust), Concurrency: b.Concurrency,
	}
	var err error
	if b.Rate.Requests > 0 {
		request.Rate.Count = b.Rate.Requests
		if request.Rate.Per, err = certctl.ParseDuration(b.Rate.Per); err != nil {
			return request, asField("/rate/per", err)
		}
	}
	if request.Duplicates, err = s.duplicates(b); err != nil {
		return request, err
	}
	request.Priced = b.Priced || s.Issuers.Priced(b.Kind)
	if request.Settings, err = object(b.Settings); err != nil {
		return request, err
	}
	if err := s.Issuers.Validate(b.Kind, request.Settings); err != nil {
		return request, err
	}
	if request.Trust == "" {
		request.Trust = s.Issuers.Trust(b.Kind)
	}
	if err := s.giveAccount(&request, b.Secrets); err != nil || len(b.Secrets) == 0 {
		return request, err
	}
	var bad certctl.FieldErrors
	for name := range b.Secrets {
		if !slices.Contains(s.Issuers.Secrets(b.Kind), name) {
			bad.Add("/secrets/"+certctl.Clip(name, 40), "an issuer of the kind %s has no such secret", b.Kind)
		}
	}
	if err := bad.Err(); err != nil {
		return request, err
	}
	encoded, err := json.Marshal(b.Secrets)
	if err != nil {
		return request, certctl.Wrap(certctl.Internal, err, "the secrets cannot be encoded")
	}
	request.Sealed, err = s.Seal("issuer", id, "sealed", encoded)
	return request, err
}

// duplicates is the limit that a request names, or that of the kind.
func (s *Server) duplicates(b gen.IssuerRequest) (certctl.Rate, error) {
	if b.Duplicates.Leaves == 0 {
		return s.Issuers.Duplicates(b.Kind), nil
	}
	per, err := certctl.ParseDuration(b.Duplicates.Per)
	return certctl.Rate{Count: b.Duplicates.Leaves, Per: per}, asField("/duplicates/per", err)
}

// CreateIssuer makes one. Its secrets can be replaced and never read.
func (s *Server) CreateIssuer(ctx context.Context, r gen.CreateIssuerRequestObject) (gen.CreateIssuerResponseObject, error) {
	request, err := s.issuerRequest(certctl.NewID(s.Now()), *r.Body)
	if err != nil {
		return nil, err
	}
	issuer, err := s.store.CreateIssuer(ctx, actorOf(ctx), request)
	return gen.CreateIssuer201JSONResponse{
		Body: issuerOf(issuer), Headers: gen.CreateIssuer201ResponseHeaders{Location: "/api/v1/issuers/" + issuer.ID.String()},
	}, err
}

// GetIssuer shows one.
func (s *Server) GetIssuer(ctx context.Context, r gen.GetIssuerRequestObject) (gen.GetIssuerResponseObject, error) {
	issuer, err := s.store.GetIssuer(ctx, actorOf(ctx), r.Issuer)
	return gen.GetIssuer200JSONResponse(issuerOf(issuer)), err
}

// ListIssuers shows one page.
func (s *Server) ListIssuers(ctx context.Context, r gen.ListIssuersRequestObject) (gen.ListIssuersResponseObject, error) {
	p := r.Params
	page, err := s.store.ListIssuers(ctx, actorOf(ctx), named(p.Cursor, p.Limit, p.Team))
	return gen.ListIssuers200JSONResponse{Items: each(page.Items, issuerOf), NextCursor: page.Next}, err
}

// UpdateIssuer replaces one's settings; secrets that are left out stay.
func (s *Server) UpdateIssuer(ctx context.Context, r gen.UpdateIssuerRequestObject) (gen.UpdateIssuerResponseObject, error) {
	issuer, err := s.store.GetIssuer(ctx, actorOf(ctx), r.Issuer)
	if err != nil {
		return nil, err
	}
	request, err := s.issuerRequest(issuer.ID, *r.Body)
	if err != nil {
		return nil, err
	}
	issuer, err = s.store.UpdateIssuer(ctx, actorOf(ctx), issuer.ID.String(), request)
	return gen.UpdateIssuer200JSONResponse(issuerOf(issuer)), err
}

// ArchiveIssuer ends one that nothing uses.
func (s *Server) ArchiveIssuer(ctx context.Context, r gen.ArchiveIssuerRequestObject) (gen.ArchiveIssuerResponseObject, error) {
	return gen.ArchiveIssuer204Response{}, s.store.ArchiveIssuer(ctx, actorOf(ctx), r.Issuer)
}
