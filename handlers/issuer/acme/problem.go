package acme

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/certctl/certctl"
	"github.com/go-acme/lego/v4/acme"
)

const problemPrefix = "urn:ietf:params:acme:error:"

// validationPause is how long after a failed validation the next one is tried at
// the soonest: public CAs count failures per name, five an hour at Let's Encrypt.
const validationPause = 13 * time.Minute

// meaning is what a problem of the CA's means for us.
type meaning struct {
	kind   certctl.FailureKind
	after  time.Duration
	remedy string
}

// meanings of the problem types of RFC 8555 section 6.7, RFC 8739, RFC 9773 and
// the draft of profiles. Types that are not listed are retryable.
var meanings = map[string]meaning{
	"accountDoesNotExist":     {certctl.FailMisconfigured, 0, "the CA does not know the account any more: make another issuer for it"},
	"alreadyRevoked":          {certctl.FailRefused, 0, ""},
	"badCSR":                  {certctl.FailRefused, 0, "send another request, with names that are the certificate's and a key that the CA takes"},
	"badPublicKey":            {certctl.FailRefused, 0, "choose another key algorithm in the profile"},
	"badRevocationReason":     {certctl.FailRefused, 0, "choose another reason"},
	"badSignatureAlgorithm":   {certctl.FailMisconfigured, 0, ""},
	"caa":                     {certctl.FailMisconfigured, validationPause, "let the names' CAA records allow this CA"},
	"connection":              {certctl.FailRetryable, validationPause, "the CA must reach port 80 of the name, and get the answer of CERTCTL_ACME_HTTP_LISTEN, or of the agent that answers for it, there"},
	"dns":                     {certctl.FailRetryable, validationPause, "the name must resolve everywhere, and its zone be answered without errors"},
	"externalAccountRequired": {certctl.FailMisconfigured, 0, "set eab_key_id and the secret eab_hmac, which the CA gives you, or eab_service"},
	"incorrectResponse":       {certctl.FailRetryable, validationPause, "the CA got another answer than the proof: look whose server the name leads to"},
	"invalidContact":          {certctl.FailMisconfigured, 0, "correct contact"},
	"invalidProfile":          {certctl.FailMisconfigured, 0, "choose one of the profiles that the CA's directory lists"},
	"malformed":               {certctl.FailRefused, 0, ""},
	"rateLimited":             {certctl.FailRateLimited, time.Minute, ""},
	"rejectedIdentifier":      {certctl.FailRefused, 0, "the CA never issues for this name: remove it, or use another issuer"},
	"serverInternal":          {certctl.FailRetryable, 0, ""},
	"tls":                     {certctl.FailRetryable, validationPause, ""},
	"unauthorized":            {certctl.FailRetryable, validationPause, "the proof was not found where the CA looked: look whose server or zone the name leads to"},
	"unsupportedContact":      {certctl.FailMisconfigured, 0, "correct contact"},
	"unsupportedIdentifier":   {certctl.FailRefused, 0, "the CA does not issue for names of this type: remove it, or use another issuer"},
	"userActionRequired":      {certctl.FailMisconfigured, 0, "the CA wants a person to visit the address that it names, mostly to agree to new terms"},
}

// failed says what a failed request means. The attempt goes on: whoever knows that
// it cannot clears Resume.
func (t *transport) failed(err error, format string, args ...any) *certctl.IssueError {
	if t.err != nil {
		err = errors.Join(err, t.err)
	}
	var ours *certctl.IssueError
	if errors.As(err, &ours) {
		return ours
	}
	what := fmt.Sprintf(format, args...)
	var problem *acme.ProblemDetails
	if errors.As(err, &problem) && problem.Type != "" {
		said := t.said(problem, what)
		said.Cause = err
		return said
	}
	failure := &certctl.IssueError{
		Kind: certctl.FailRetryable, Code: "acme_unreachable", Outage: true, Resume: true, RetryAfter: t.wait(), Cause: err,
		Message: what + ": the CA's server does not answer as it should",
	}
	switch {
	case t.status == http.StatusTooManyRequests:
		failure.Kind, failure.Code, failure.Outage = certctl.FailRateLimited, "acme_rateLimited", false
		failure.Message = what + ": the CA asks us to come later"
	case t.status == http.StatusNotFound:
		failure.Code, failure.Outage, failure.Resume = "acme_notFound", false, false
		failure.Message = what + ": the CA does not know it any more"
	case t.status >= http.StatusBadRequest:
		failure.Message = fmt.Sprintf("%s: the CA's server answers with status %d", what, t.status)
	}
	var denied *certctl.Error
	if errors.As(err, &denied) && denied.Code == certctl.Denied {
		failure.Kind, failure.Outage, failure.Message = certctl.FailMisconfigured, false, what+": "+withRemedy(denied.Message, denied.Remedy)
	}
	return failure
}

// said is what the CA said in a problem document.
func (t *transport) said(p *acme.ProblemDetails, what string) *certctl.IssueError {
	e := problemError(p, what)
	e.RetryAfter = max(e.RetryAfter, t.wait())
	e.Outage = p.HTTPStatus >= http.StatusInternalServerError
	e.Resume = e.Kind == certctl.FailRetryable || e.Kind == certctl.FailRateLimited
	if t.status == http.StatusNotFound {
		e.Kind, e.Resume = certctl.FailRetryable, false
	}
	return e
}

// problemError gives a problem its kind, with what the CA says of each name.
func problemError(p *acme.ProblemDetails, what string) *certctl.IssueError {
	name := strings.TrimPrefix(p.Type, problemPrefix)
	known, ok := meanings[name]
	if !ok {
		known = meaning{kind: certctl.FailRetryable}
	}
	text := what + ": " + certctl.Clip(p.Detail, 400)
	for _, sub := range p.SubProblems {
		text += "; " + certctl.Clip(sub.Identifier.Value, 100) + ": " + certctl.Clip(sub.Detail, 200)
		if m, ok := meanings[strings.TrimPrefix(sub.Type, problemPrefix)]; ok && known.remedy == "" {
			known.remedy = m.remedy
		}
	}
	return &certctl.IssueError{
		Kind: known.kind, Code: "acme_" + certctl.Clip(name, 60), Message: withRemedy(text, known.remedy), RetryAfter: known.after,
	}
}

func withRemedy(text, remedy string) string {
	if remedy == "" {
		return text
	}
	return strings.TrimSuffix(text, ".") + ". " + remedy
}
