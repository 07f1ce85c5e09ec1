package rest

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// AdminStore holds what is administered: profiles, policies, and who may do what.
type AdminStore interface {
	CreateProfile(ctx context.Context, actor certctl.Actor, profile certctl.Profile) (certctl.Profile, error)
	GetProfile(ctx context.Context, actor certctl.Actor, ref string) (certctl.Profile, error)
	ListProfiles(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.Profile], error)
	UpdateProfile(ctx context.Context, actor certctl.Actor, ref string, profile certctl.Profile) (certctl.Profile, error)
	ArchiveProfile(ctx context.Context, actor certctl.Actor, ref string) error
	CreateRenewalPolicy(ctx context.Context, actor certctl.Actor, policy certctl.RenewalPolicy) (certctl.RenewalPolicy, error)
	GetRenewalPolicy(ctx context.Context, actor certctl.Actor, ref string) (certctl.RenewalPolicy, error)
	ListRenewalPolicies(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.RenewalPolicy], error)
	UpdateRenewalPolicy(ctx context.Context, actor certctl.Actor, ref string, policy certctl.RenewalPolicy) (certctl.RenewalPolicy, error)
	ArchiveRenewalPolicy(ctx context.Context, actor certctl.Actor, ref string) error
	CreatePrincipal(ctx context.Context, actor certctl.Actor, principal certctl.Principal) (certctl.Principal, error)
	ListPrincipals(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.Principal], error)
	UpdatePrincipal(ctx context.Context, actor certctl.Actor, ref string, patch certctl.PrincipalPatch) (certctl.Principal, error)
	CreateAPIKey(ctx context.Context, actor certctl.Actor, principal, name, prefix string, hash certctl.Digest, expires time.Time) (certctl.APIKey, error)
	ListAPIKeys(ctx context.Context, actor certctl.Actor, principal string, filter certctl.NamedFilter) (certctl.Page[certctl.APIKey], error)
	RevokeAPIKey(ctx context.Context, actor certctl.Actor, id certctl.ID) error
}

func principalOf(p certctl.Principal) gen.Principal {
	return gen.Principal{
		ID: p.ID, Kind: string(p.Kind), Name: p.Name, Team: p.Team, Roles: converted[string](p.Roles), DisabledAt: p.DisabledAt,
	}
}

// CreatePrincipal makes one; it can do nothing before it has a key.
func (s *Server) CreatePrincipal(ctx context.Context, r gen.CreatePrincipalRequestObject) (gen.CreatePrincipalResponseObject, error) {
	principal, err := s.store.CreatePrincipal(ctx, actorOf(ctx), certctl.Principal{
		Kind: certctl.PrincipalKind(r.Body.Kind), Name: r.Body.Name, Team: r.Body.Team, Roles: converted[certctl.Role](r.Body.Roles),
	})
	return gen.CreatePrincipal201JSONResponse{
		Body: principalOf(principal), Headers: gen.CreatePrincipal201ResponseHeaders{Location: "/api/v1/principals/" + principal.ID.String()},
	}, err
}

// ListPrincipals shows one page.
func (s *Server) ListPrincipals(ctx context.Context, r gen.ListPrincipalsRequestObject) (gen.ListPrincipalsResponseObject, error) {
	page, err := s.store.ListPrincipals(ctx, actorOf(ctx), named(r.Params.Cursor, r.Params.Limit, ""))
	return gen.ListPrincipals200JSONResponse{Items: each(page.Items, principalOf), NextCursor: page.Next}, err
}

// UpdatePrincipal changes what one may do.
func (s *Server) UpdatePrincipal(ctx context.Context, r gen.UpdatePrincipalRequestObject) (gen.UpdatePrincipalResponseObject, error) {
	patch := certctl.PrincipalPatch{Disabled: given(r.Body.Disabled)}
	if roles := given(r.Body.Roles); roles != nil {
		converted := converted[certctl.Role](*roles)
		patch.Roles = &converted
	}
	principal, err := s.store.UpdatePrincipal(ctx, actorOf(ctx), r.Principal, patch)
	return gen.UpdatePrincipal200JSONResponse(principalOf(principal)), err
}

func keyOf(k certctl.APIKey) gen.APIKey {
	return gen.APIKey{
		ID: k.ID, Name: k.Name, Prefix: k.Prefix, Principal: refOf(k.Principal), CreatedAt: k.CreatedAt,
		ExpiresAt: k.ExpiresAt, LastUsedAt: k.LastUsedAt, RevokedAt: k.RevokedAt,
	}
}

// CreateAPIKey makes a key; only its hash is stored.
func (s *Server) CreateAPIKey(ctx context.Context, r gen.CreateAPIKeyRequestObject) (gen.CreateAPIKeyResponseObject, error) {
	life, err := lifetime("/expires_in", r.Body.ExpiresIn, 0)
	if err != nil {
		return nil, err
	}
	var expires time.Time
	if life > 0 {
		expires = s.Now().Add(life)
	}
	secret := certctl.NewSecret(certctl.APIKeyPrefix)
	made, err := s.store.CreateAPIKey(ctx, actorOf(ctx), r.Body.Principal, r.Body.Name, certctl.ShownSecret(secret), certctl.DigestOf([]byte(secret)), expires)
	k := keyOf(made)
	return gen.CreateAPIKey201JSONResponse{
		Key: secret, ID: k.ID, Name: k.Name, Prefix: k.Prefix, Principal: k.Principal, CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt,
	}, err
}

// ListAPIKeys shows one page, of one principal where one is named.
func (s *Server) ListAPIKeys(ctx context.Context, r gen.ListAPIKeysRequestObject) (gen.ListAPIKeysResponseObject, error) {
	p := r.Params
	page, err := s.store.ListAPIKeys(ctx, actorOf(ctx), p.Principal, named(p.Cursor, p.Limit, ""))
	return gen.ListAPIKeys200JSONResponse{Items: each(page.Items, keyOf), NextCursor: page.Next}, err
}

// RevokeAPIKey ends a key at once.
func (s *Server) RevokeAPIKey(ctx context.Context, r gen.RevokeAPIKeyRequestObject) (gen.RevokeAPIKeyResponseObject, error) {
	return gen.RevokeAPIKey204Response{}, s.store.RevokeAPIKey(ctx, actorOf(ctx), r.ID)
}

// WhoAmI shows whose key was used.
func (s *Server) WhoAmI(ctx context.Context, _ gen.WhoAmIRequestObject) (gen.WhoAmIResponseObject, error) {
	return gen.WhoAmI200JSONResponse(principalOf(actorOf(ctx).Principal)), nil
}
