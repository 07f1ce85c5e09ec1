package acme

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/certctl/certctl"
	legoacme "github.com/go-acme/lego/v4/acme"
)

// tokens are what a CA may ask us to answer for (RFC 8555 section 8.3).
var tokens = regexp.MustCompile(`^[A-Za-z0-9_-]{16,512}$`)

// prove sees which names are to be proven, and chooses how.
func (a *attempt) prove(ctx context.Context) (step, error) {
	for i, p := range a.state.Proofs {
		authorization, err := a.session.Authorizations.Get(p.URL)
		if err != nil {
			return "", a.session.transport.failed(err, "the CA's authorization cannot be read")
		}
		if a.state.Proofs[i], err = a.proofOf(ctx, p.URL, authorization); err != nil {
			return "", err
		}
	}
	if slices.ContainsFunc(a.state.Proofs, func(p proof) bool { return !p.Valid }) {
		return stepPresent, nil
	}
	return stepFinalize, nil
}

func (a *attempt) proofOf(ctx context.Context, url string, authorization legoacme.Authorization) (proof, error) {
	p := proof{URL: url, Name: authorization.Identifier.Value}
	if authorization.Wildcard {
		p.Name = "*." + p.Name
	}
	switch authorization.Status {
	case legoacme.StatusValid:
		p.Valid = true
		return p, nil
	case legoacme.StatusPending:
	default:
		return p, a.invalid(ctx, p, authorization)
	}
	rule, ok := a.ca.settings.rule(p.Name)
	if !ok {
		return p, misconfigured(nil, "no rule under challenges proves %s", certctl.Clip(p.Name, 253))
	}
	for _, challenge := range authorization.Challenges {
		if challenge.Type != rule.Type {
			continue
		}
		if rule.Type == challengePersist {
			var err error
			p.Type, p.Challenge = challenge.Type, challenge.URL
			p.Issuers, err = a.offered(a.session.transport.body)
			return p, err
		}
		if !tokens.MatchString(challenge.Token) {
			return p, misconfigured(nil, "the CA sent a token that RFC 8555 does not allow")
		}
		p.Type, p.Challenge, p.Token, p.By = challenge.Type, challenge.URL, challenge.Token, rule.By
		if p.Type == challengeDNS || p.By != nil {
			var err error
			if p.Answer, err = a.session.GetKeyAuthorization(p.Token); err != nil {
				return p, certctl.Wrap(certctl.Internal, err, "no key authorization can be made")
			}
		}
		if p.Type == challengeDNS {
			p.Record, p.Value = a.ca.delegated(ctx, recordOf(p.Name)), txtValue(p.Answer)
		}
		return p, nil
	}
	return p, misconfigured(nil, "the CA offers no %s for %s: choose another type under challenges", rule.Type, certctl.Clip(p.Name, 253))
}

// present puts the proofs where the CA looks.
func (a *attempt) present(ctx context.Context) (step, error) {
	var answers []certctl.ChallengeToken
	for _, p := range a.state.open(challengeHTTP) {
		if p.By != nil {
			continue
		}
		answer, err := a.session.GetKeyAuthorization(p.Token)
		if err != nil {
			return "", certctl.Wrap(certctl.Internal, err, "no key authorization can be made")
		}
		answers = append(answers, certctl.ChallengeToken{Token: p.Token, Answer: answer})
	}
	if len(answers) > 0 {
		if err := a.ca.store.PutChallengeTokens(ctx, a.attempt.Order, answers); err != nil {
			return "", err
		}
	}
	if err := a.ca.writeRecords(ctx, a.state.open(challengeDNS), provider.Present); err != nil {
		return "", err
	}
	if groups := a.state.byAgents(); len(groups) > 0 {
		return stepHold, a.giveToAgents(ctx, groups)
	}
	return a.state.shown(), nil
}

// accept tells the CA to look. One that was told before is told again without harm.
func (a *attempt) accept() (step, error) {
	for _, p := range a.state.Proofs {
		if p.Valid {
			continue
		}
		if _, err := a.session.Challenges.New(p.Challenge); err != nil {
			failure := a.session.transport.failed(err, "the CA does not look at the proof of %s", p.Name)
			if strings.HasSuffix(failure.Code, "_malformed") {
				continue // it has looked already: the authorization tells
			}
			return "", failure
		}
	}
	return stepValidate, nil
}

// validate waits until the CA has looked at every proof.
func (a *attempt) validate(ctx context.Context) (step, error) {
	for i, p := range a.state.Proofs {
		if p.Valid {
			continue
		}
		authorization, err := a.session.Authorizations.Get(p.URL)
		if err != nil {
			return "", a.session.transport.failed(err, "the CA's authorization for %s cannot be read", p.Name)
		}
		switch authorization.Status {
		case legoacme.StatusValid:
			a.state.Proofs[i].Valid = true
		case legoacme.StatusPending:
			return "", a.wait("the CA validates " + p.Name)
		default:
			return "", a.invalid(ctx, p, authorization)
		}
	}
	return stepClean, nil
}

// clean removes the proofs: the CA has seen them.
func (a *attempt) clean(ctx context.Context) (step, error) {
	if err := a.ca.store.RemoveChallengeTokens(ctx, a.attempt.Order); err != nil {
		return "", err
	}
	return stepFinalize, a.ca.removeRecords(ctx, a.state)
}

// authorizationInvalid says for which name and why the CA has seen no proof. The
// attempt has failed: the next one makes another order.
func authorizationInvalid(p proof, authorization legoacme.Authorization) *certctl.IssueError {
	for _, challenge := range authorization.Challenges {
		if challenge.Error != nil {
			e := problemError(challenge.Error, p.Name+" could not be validated by "+challenge.Type)
			e.Resume = false
			return e
		}
	}
	return &certctl.IssueError{
		Kind: certctl.FailRetryable, Code: "acme_authorization_" + certctl.Clip(authorization.Status, 20), RetryAfter: validationPause,
		Message: "the CA's authorization for " + certctl.Clip(p.Name, 253) + " is " + certctl.Clip(authorization.Status, 20),
	}
}
