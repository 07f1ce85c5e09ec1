package rest

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/rest/internal/gen"
)

// AgentStore holds nodes and the tokens that let them in.
type AgentStore interface {
	CreateJoinToken(ctx context.Context, actor certctl.Actor, token certctl.JoinToken, hash certctl.Digest) (certctl.JoinToken, error)
	ListJoinTokens(ctx context.Context, actor certctl.Actor, filter certctl.NamedFilter) (certctl.Page[certctl.JoinToken], error)
	RevokeJoinToken(ctx context.Context, actor certctl.Actor, id certctl.ID) error
	GetAgent(ctx context.Context, actor certctl.Actor, ref string) (certctl.Agent, error)
	ListAgents(ctx context.Context, actor certctl.Actor, filter certctl.AgentFilter) (certctl.Page[certctl.Agent], error)
	ApproveAgent(ctx context.Context, actor certctl.Actor, ref string) (certctl.Agent, error)
	ResolveAgentConflict(ctx context.Context, actor certctl.Actor, ref, machineID string) (certctl.Agent, error)
	RetireAgent(ctx context.Context, actor certctl.Actor, ref string, force bool) (certctl.Agent, error)
	RetireCompromisedAgent(ctx context.Context, actor certctl.Actor, ref string) (certctl.Agent, error)
	NewAgentNonce(ctx context.Context, agent certctl.ID, nonce []byte, ttl time.Duration) error
	NewestTrust(ctx context.Context) (certctl.Statement, error)
}

// EnrollRequest is what the signer is asked: the machine's own words, and where
// they came from.
type EnrollRequest struct {
	Enrolment certctl.Enrolment
	Remote    netip.Addr
}

// Prefixes of secrets that the API makes, so that scanners find leaked ones.

// CreateJoinToken makes a token; only its hash is stored.
func (s *Server) CreateJoinToken(ctx context.Context, r gen.CreateJoinTokenRequestObject) (gen.CreateJoinTokenResponseObject, error) {
	life, err := lifetime("/expires_in", r.Body.ExpiresIn, time.Hour)
	if err != nil {
		return nil, err
	}
	secret := certctl.NewSecret(certctl.JoinTokenPrefix)
	token, err := s.store.CreateJoinToken(ctx, actorOf(ctx), certctl.JoinToken{
		Team: r.Body.Team, Prefix: certctl.ShownSecret(secret), UsesLeft: max(r.Body.Uses, 1), ExpiresAt: s.Now().Add(life),
		Names: r.Body.Names, Labels: r.Body.Labels, Networks: r.Body.Networks,
		Approve: r.Body.Approve != gen.JoinTokenRequestApproveManual, Replace: r.Body.Replace,
	}, certctl.DigestOf([]byte(secret)))
	if err != nil {
		return nil, err
	}
	t := tokenOf(token)
	return gen.CreateJoinToken201JSONResponse{
		Token: secret, CaFingerprint: s.CAFingerprint, ID: t.ID, Team: t.Team, Prefix: t.Prefix, UsesLeft: t.UsesLeft,
		ExpiresAt: t.ExpiresAt, Names: t.Names, Labels: t.Labels, Networks: t.Networks, Approve: t.Approve,
		Replace: t.Replace, Fleet: t.Fleet, CreatedAt: t.CreatedAt,
	}, nil
}

func tokenOf(t certctl.JoinToken) gen.JoinToken {
	approve := "manual"
	if t.Approve {
		approve = "auto"
	}
	return gen.JoinToken{
		ID: t.ID, Team: t.Team, Prefix: t.Prefix, UsesLeft: t.UsesLeft, ExpiresAt: t.ExpiresAt, Names: t.Names,
		Labels: t.Labels, Networks: t.Networks, Approve: approve, Replace: t.Replace, Fleet: t.Fleet, CreatedAt: t.CreatedAt, RevokedAt: t.RevokedAt,
	}
}

// ListJoinTokens shows tokens without their secrets.
func (s *Server) ListJoinTokens(ctx context.Context, r gen.ListJoinTokensRequestObject) (gen.ListJoinTokensResponseObject, error) {
	page, err := s.store.ListJoinTokens(ctx, actorOf(ctx), certctl.NamedFilter{PageRequest: pageRequest(r.Params.Cursor, r.Params.Limit), Team: r.Params.Team})
	return gen.ListJoinTokens200JSONResponse{Items: each(page.Items, tokenOf), NextCursor: page.Next}, err
}

// RevokeJoinToken ends a token.
func (s *Server) RevokeJoinToken(ctx context.Context, r gen.RevokeJoinTokenRequestObject) (gen.RevokeJoinTokenResponseObject, error) {
	return gen.RevokeJoinToken204Response{}, s.store.RevokeJoinToken(ctx, actorOf(ctx), r.ID)
}

// EnrollAgent passes a machine's wish on to the signer.
func (s *Server) EnrollAgent(ctx context.Context, r gen.EnrollAgentRequestObject) (gen.EnrollAgentResponseObject, error) {
	b := r.Body
	enrolled, err := s.Signer.Enroll(ctx, EnrollRequest{
		Remote: requestOf(ctx).remote,
		Enrolment: certctl.Enrolment{
			Token: b.Token, Name: b.Name, MachineID: b.MachineID, Version: b.Version, Labels: b.Labels,
			Keys: certctl.AgentKeys{Bus: b.Keys.Bus, Signing: b.Keys.Signing, Sealing: b.Keys.Sealing},
		},
	})
	if err != nil {
		return nil, err
	}
	return gen.EnrollAgent201JSONResponse{
		Installation: enrolled.Installation, Agent: enrolled.Agent, Name: enrolled.Name, State: string(enrolled.State),
		FleetKey: enrolled.FleetKey, Trust: statementOf(enrolled.Trust),
	}, nil
}

// nonceLife is how long an agent may take to sign a nonce.
const nonceLife = time.Minute

// NewAgentNonce hands out a nonce. It is worth nothing without the agent's key,
// so anybody may have one.
func (s *Server) NewAgentNonce(ctx context.Context, r gen.NewAgentNonceRequestObject) (gen.NewAgentNonceResponseObject, error) {
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails
	if err := s.store.NewAgentNonce(ctx, r.Agent, nonce, nonceLife); err != nil {
		return nil, err
	}
	return gen.NewAgentNonce200JSONResponse{Nonce: nonce, ExpiresAt: s.Now().Add(nonceLife)}, nil
}

// NewAgentCredentials passes an agent's signed wish on to the signer, which
// checks it against the database itself.
func (s *Server) NewAgentCredentials(ctx context.Context, r gen.NewAgentCredentialsRequestObject) (gen.NewAgentCredentialsResponseObject, error) {
	if r.Body.Agent != r.Agent {
		return nil, certctl.InvalidField("/agent", "the statement is of another agent than the path")
	}
	credentials, err := s.Signer.Credentials(ctx, fromStatement(*r.Body))
	if err != nil {
		return nil, err
	}
	return gen.NewAgentCredentials200JSONResponse{
		Jwt: credentials.JWT, ExpiresAt: credentials.ExpiresAt, RenewAt: credentials.RenewAt, Trust: statementOf(credentials.Trust),
	}, nil
}

// GetTrust shows everybody whom agents should believe: it is public, and signed.
func (s *Server) GetTrust(ctx context.Context, _ gen.GetTrustRequestObject) (gen.GetTrustResponseObject, error) {
	trust, err := s.store.NewestTrust(ctx)
	return gen.GetTrust200JSONResponse(statementOf(trust)), err
}

func statementOf(s certctl.Statement) gen.Statement {
	return gen.Statement{
		Domain: string(s.Domain), Installation: s.Installation, Agent: s.Agent, Kind: s.Kind, Object: s.Object,
		Number: s.Number, Time: s.Time, Key: s.Key, Body: s.Body, Signature: s.Signature,
	}
}

func fromStatement(s gen.Statement) certctl.Statement {
	return certctl.Statement{
		Domain: certctl.Domain(s.Domain), Installation: s.Installation, Agent: s.Agent, Kind: s.Kind, Object: s.Object,
		Number: s.Number, Time: s.Time, Key: s.Key, Body: s.Body, Signature: s.Signature,
	}
}

func (s *Server) agentOf(a certctl.Agent) gen.Agent {
	return gen.Agent{
		ID: a.ID, Name: a.Name, Team: a.Team, State: string(a.State), Reason: a.StateReason,
		Presence: certctl.Presence(a.LastContact, s.Now()), LastContact: a.LastContact, Version: a.Version,
		Capabilities: a.Capabilities, Features: a.Features, MachineID: a.MachineID, Session: a.Session, Labels: a.Labels,
		EnrolledAt: a.EnrolledAt, RetiredAt: a.RetiredAt,
	}
}

// ListAgents shows one page of agents.
func (s *Server) ListAgents(ctx context.Context, r gen.ListAgentsRequestObject) (gen.ListAgentsResponseObject, error) {
	p := r.Params
	labels, err := labelFilter(p.Label)
	if err != nil {
		return nil, err
	}
	page, err := s.store.ListAgents(ctx, actorOf(ctx), certctl.AgentFilter{
		PageRequest: pageRequest(p.Cursor, p.Limit), Team: p.Team, State: certctl.AgentState(p.State),
		Presence: string(p.Presence), Label: labels,
	})
	return gen.ListAgents200JSONResponse{Items: each(page.Items, s.agentOf), NextCursor: page.Next}, err
}

// GetAgent shows one.
func (s *Server) GetAgent(ctx context.Context, r gen.GetAgentRequestObject) (gen.GetAgentResponseObject, error) {
	agent, err := s.store.GetAgent(ctx, actorOf(ctx), r.Agent)
	return gen.GetAgent200JSONResponse(s.agentOf(agent)), err
}

// ApproveAgent lets one in that waits.
func (s *Server) ApproveAgent(ctx context.Context, r gen.ApproveAgentRequestObject) (gen.ApproveAgentResponseObject, error) {
	agent, err := s.store.ApproveAgent(ctx, actorOf(ctx), r.Agent)
	return gen.ApproveAgent200JSONResponse(s.agentOf(agent)), err
}

// ResolveAgentConflict says which machine the agent is.
func (s *Server) ResolveAgentConflict(ctx context.Context, r gen.ResolveAgentConflictRequestObject) (gen.ResolveAgentConflictResponseObject, error) {
	agent, err := s.store.ResolveAgentConflict(ctx, actorOf(ctx), r.Agent, r.Body.MachineID)
	return gen.ResolveAgentConflict200JSONResponse(s.agentOf(agent)), err
}

// RetireAgent ends one for good.
func (s *Server) RetireAgent(ctx context.Context, r gen.RetireAgentRequestObject) (gen.RetireAgentResponseObject, error) {
	if r.Params.Compromised {
		agent, err := s.store.RetireCompromisedAgent(ctx, actorOf(ctx), r.Agent)
		return gen.RetireAgent200JSONResponse(s.agentOf(agent)), err
	}
	agent, err := s.store.RetireAgent(ctx, actorOf(ctx), r.Agent, r.Params.Force)
	return gen.RetireAgent200JSONResponse(s.agentOf(agent)), err
}

// remoteAddr is where a request came from; the zero address if that cannot be
// told. Headers are not believed.
func remoteAddr(address string) netip.Addr {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(host) // invalid is the zero address
	return addr.Unmap()
}
