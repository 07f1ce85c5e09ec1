package handlers

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/subtle"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// CredentialStore enrols agents and keeps the nonces that they sign.
type CredentialStore interface {
	AgentStore
	Enroll(ctx context.Context, token certctl.Digest, enrolment certctl.Enrolment, remote netip.Addr,
		statement func(agent certctl.ID, team string) (certctl.Statement, error)) (certctl.Agent, error)
	ReplacedByFleet(ctx context.Context, token certctl.Digest, enrolment certctl.Enrolment) (certctl.ID, error)
	UseAgentNonce(ctx context.Context, agent certctl.ID, nonce []byte) error
	NewestTrust(ctx context.Context) (certctl.Statement, error)
	Now(ctx context.Context) (time.Time, error)
}

// MintJWT makes an agent's bus credentials. It does not ask whether the agent
// may have them.
type MintJWT func(agent certctl.ID, busKey string, now time.Time, life time.Duration) (string, error)

// RingAgents rings agents and returns those that are off line.
type RingAgents func(ctx context.Context, agents []certctl.ID) (offline []certctl.ID, err error)

// EnrollRequest is what the API passes on to the signer: the machine's own
// words, and where they came from.
type EnrollRequest struct {
	Enrolment certctl.Enrolment `json:"enrolment"`
	Remote    netip.Addr        `json:"remote"`
}

// CredentialsRequest is an agent's signed wish for credentials.
type CredentialsRequest struct {
	Statement certctl.Statement `json:"statement"`
}

// CredentialsBody is the body of that statement.
type CredentialsBody struct {
	Nonce []byte `json:"nonce"`
}

// Enrolments makes agents and their credentials. The API only passes requests
// on; everything that decides is checked here, against PostgreSQL, by the role
// that holds the keys.
type Enrolments struct {
	installation certctl.ID
	fleet        crypto.Signer
	store        CredentialStore
	mint         MintJWT
	ring         RingAgents
	log          zerolog.Logger
}

// NewEnrolments returns the handler.
func NewEnrolments(installation certctl.ID, fleet crypto.Signer, store CredentialStore, mint MintJWT, ring RingAgents, log zerolog.Logger) *Enrolments {
	return &Enrolments{installation: installation, fleet: fleet, store: store, mint: mint, ring: ring, log: log}
}

// Life of an agent's bus credentials: three days, give or take a fifth, so that
// a fleet that enrolled together does not renew together. They are renewed from
// a third of it on.
const (
	credentialLife   = 3 * certctl.Day
	credentialSpread = credentialLife / 5
)

// LongestCredential is the longest life that credentials can have: an agent
// retired longer ago holds none that still works.
const LongestCredential = credentialLife + credentialSpread

// Enroll makes an agent of a machine that holds a join token. The signed
// statement of its id and public keys is what later proves that nobody added
// the agent, or changed its keys, in the database.
func (e *Enrolments) Enroll(ctx context.Context, request EnrollRequest) (certctl.Enrolled, error) {
	enrolment := request.Enrolment
	if err := enrolment.Keys.Check(); err != nil {
		return certctl.Enrolled{}, err
	}
	token := certctl.DigestOf([]byte(enrolment.Token))
	if err := e.mayReplace(ctx, token, enrolment); err != nil {
		return certctl.Enrolled{}, err
	}
	now, err := e.store.Now(ctx)
	if err != nil {
		return certctl.Enrolled{}, err
	}
	statement := func(agent certctl.ID, _ string) (certctl.Statement, error) {
		return certctl.NewStatement(e.fleet, certctl.Statement{
			Domain: certctl.DomainEnrolment, Installation: e.installation, Agent: agent, Kind: "agent", Time: now,
		}, enrolment.Keys)
	}
	agent, err := e.store.Enroll(ctx, token, enrolment, request.Remote, statement)
	if err != nil {
		return certctl.Enrolled{}, err
	}
	trust, err := e.store.NewestTrust(ctx)
	if err != nil {
		return certctl.Enrolled{}, err
	}
	e.log.Info().Stringer("agent", agent.ID).Str("name", agent.Name).Str("state", string(agent.State)).Msg("agent enrolled")
	public, _ := e.fleet.Public().(ed25519.PublicKey)
	return certctl.Enrolled{
		Installation: e.installation, Agent: agent.ID, Name: agent.Name, State: agent.State,
		FleetKey: public, Trust: trust,
	}, nil
}

// mayReplace refuses to replace an agent that is on line by the token of a fleet.
// That token is read by every node of the fleet: who has stolen it from one must
// not get the certificates of another that is at work. Pods that were deleted have
// closed their connection, so that who comes after them need not wait; of a node
// that lost its power the bus knows after some twenty seconds.
func (e *Enrolments) mayReplace(ctx context.Context, token certctl.Digest, enrolment certctl.Enrolment) error {
	agent, err := e.store.ReplacedByFleet(ctx, token, enrolment)
	if err != nil || agent.IsZero() {
		return err
	}
	offline, err := e.ring(ctx, []certctl.ID{agent})
	if err != nil || slices.Contains(offline, agent) {
		return err
	}
	return certctl.Errorf(certctl.Conflict, "the agent named %q is on line, and this join token replaces only those that are not", enrolment.Name).
		WithRemedy("stop that agent first, or use a join token of its own that may replace it (certctl join-tokens create --replace)")
}

// Credentials renews an agent's way into the bus, however long it was away. It
// is the only renewal path, and a retired key is never signed again.
func (e *Enrolments) Credentials(ctx context.Context, request CredentialsRequest) (certctl.Credentials, error) {
	statement := request.Statement
	agent, err := e.sender(ctx, statement)
	if err != nil {
		return certctl.Credentials{}, err
	}
	var body CredentialsBody
	if err := statement.Decode(&body); err != nil {
		return certctl.Credentials{}, err
	}
	if err := e.store.UseAgentNonce(ctx, agent.ID, body.Nonce); err != nil {
		return certctl.Credentials{}, err
	}
	now, err := e.store.Now(ctx)
	if err != nil {
		return certctl.Credentials{}, err
	}
	life := credentialLife - credentialSpread + rand.N(2*credentialSpread)
	token, err := e.mint(agent.ID, agent.Keys.Bus, now, life)
	if err != nil {
		return certctl.Credentials{}, err
	}
	trust, err := e.store.NewestTrust(ctx)
	if err != nil {
		return certctl.Credentials{}, err
	}
	e.log.Debug().Stringer("agent", agent.ID).Dur("life", life).Msg("agent credentials renewed")
	return certctl.Credentials{JWT: token, ExpiresAt: now.Add(life), RenewAt: now.Add(life / 3), Trust: trust}, nil
}

// sender finds the agent of a credentials statement and proves that it signed.
func (e *Enrolments) sender(ctx context.Context, s certctl.Statement) (certctl.Agent, error) {
	agents, err := e.store.AgentsByID(ctx, []certctl.ID{s.Agent})
	if err != nil {
		return certctl.Agent{}, err
	}
	agent, known := agents[s.Agent]
	if !known || subtle.ConstantTimeCompare(s.Installation[:], e.installation[:]) != 1 {
		return certctl.Agent{}, certctl.Errorf(certctl.NotFound, "no such agent").
			WithRemedy("enrol this machine with a new join token")
	}
	if err := s.Verify(certctl.DomainCredentials, agent.Keys.Signing); err != nil {
		return certctl.Agent{}, err
	}
	switch agent.State {
	case certctl.AgentRetired:
		return certctl.Agent{}, certctl.Errorf(certctl.Gone, "this agent was retired on %s", agent.RetiredAt.Format(time.DateOnly)).
			WithRemedy("enrol this machine anew if it should come back")
	case certctl.AgentPending:
		return certctl.Agent{}, certctl.Errorf(certctl.Denied, "this agent waits for approval").
			WithRemedy("certctl agents approve %s", agent.Name)
	}
	return agent, nil
}
