package rest

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// converted changes the type of texts.
func converted[To, From ~string](list []From) []To {
	return each(list, func(text From) To { return To(text) })
}

func profileOf(p certctl.Profile) gen.Profile {
	return gen.Profile{
		ID: p.ID, Name: p.Name, Team: p.Team, Description: p.Description, Validity: p.Validity.String(),
		KeyAlgorithms:     converted[gen.ProfileKeyAlgorithms](p.KeyAlgorithms),
		ExtendedKeyUsages: converted[gen.ProfileExtendedKeyUsages](p.EKUs),
		NameRules: gen.NameRules{
			DNS: p.NameRules.DNS, Wildcards: p.NameRules.Wildcards, IP: p.NameRules.IP, URI: p.NameRules.URI,
			Email: p.NameRules.Email, Allow: p.NameRules.Allow, Deny: p.NameRules.Deny,
		},
		Approval: p.Approval, ReuseKey: p.ReuseKey, NoRevocation: p.NoRevocation, CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt,
	}
}

func profileRequest(b gen.ProfileRequest) (certctl.Profile, error) {
	validity, err := certctl.ParseDuration(b.Validity)
	if err != nil {
		return certctl.Profile{}, asField("/validity", err)
	}
	return certctl.Profile{
		Team: b.Team, Name: b.Name, Description: b.Description, Validity: validity,
		KeyAlgorithms: converted[certctl.KeyAlgorithm](b.KeyAlgorithms),
		EKUs:          converted[certctl.ExtendedKeyUsage](b.ExtendedKeyUsages),
		NameRules: certctl.NameRules{
			DNS: b.NameRules.DNS, Wildcards: b.NameRules.Wildcards, IP: b.NameRules.IP, URI: b.NameRules.URI,
			Email: b.NameRules.Email, Allow: b.NameRules.Allow, Deny: b.NameRules.Deny,
		},
		Approval: b.Approval, ReuseKey: b.ReuseKey, NoRevocation: b.NoRevocation,
	}, nil
}

// CreateProfile makes one.
func (s *Server) CreateProfile(ctx context.Context, r gen.CreateProfileRequestObject) (gen.CreateProfileResponseObject, error) {
	profile, err := profileRequest(*r.Body)
	if err != nil {
		return nil, err
	}
	profile, err = s.store.CreateProfile(ctx, actorOf(ctx), profile)
	return gen.CreateProfile201JSONResponse{
		Body: profileOf(profile), Headers: gen.CreateProfile201ResponseHeaders{Location: "/api/v1/profiles/" + profile.ID.String()},
	}, err
}

// GetProfile shows one.
func (s *Server) GetProfile(ctx context.Context, r gen.GetProfileRequestObject) (gen.GetProfileResponseObject, error) {
	profile, err := s.store.GetProfile(ctx, actorOf(ctx), r.Profile)
	return gen.GetProfile200JSONResponse(profileOf(profile)), err
}

// ListProfiles shows one page.
func (s *Server) ListProfiles(ctx context.Context, r gen.ListProfilesRequestObject) (gen.ListProfilesResponseObject, error) {
	p := r.Params
	page, err := s.store.ListProfiles(ctx, actorOf(ctx), named(p.Cursor, p.Limit, p.Team))
	return gen.ListProfiles200JSONResponse{Items: each(page.Items, profileOf), NextCursor: page.Next}, err
}

// UpdateProfile replaces one; orders that are open keep what they were made with.
func (s *Server) UpdateProfile(ctx context.Context, r gen.UpdateProfileRequestObject) (gen.UpdateProfileResponseObject, error) {
	profile, err := profileRequest(*r.Body)
	if err != nil {
		return nil, err
	}
	profile, err = s.store.UpdateProfile(ctx, actorOf(ctx), r.Profile, profile)
	return gen.UpdateProfile200JSONResponse(profileOf(profile)), err
}

// ArchiveProfile ends one that nothing uses.
func (s *Server) ArchiveProfile(ctx context.Context, r gen.ArchiveProfileRequestObject) (gen.ArchiveProfileResponseObject, error) {
	return gen.ArchiveProfile204Response{}, s.store.ArchiveProfile(ctx, actorOf(ctx), r.Profile)
}
