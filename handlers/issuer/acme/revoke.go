package acme

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/certctl/certctl"
	legoacme "github.com/go-acme/lego/v4/acme"
)

// Reasons are the reasons that ACME servers take from subscribers. Let's Encrypt
// takes unspecified, keyCompromise, superseded and cessationOfOperation; another
// one is sent as unspecified.
var Reasons = []certctl.RevocationReason{
	certctl.ReasonUnspecified, certctl.ReasonKeyCompromise, certctl.ReasonSuperseded, certctl.ReasonCessationOfOperation,
}

// Revoke tells the CA, as the account that has ordered the certificate (RFC 8555
// section 7.6). One that is revoked there already is revoked.
func (c *CA) Revoke(ctx context.Context, job certctl.RevocationJob) error {
	s, _, err := c.open(ctx)
	if err != nil {
		return shown(err)
	}
	request := legoacme.RevokeCertMessage{Certificate: base64.RawURLEncoding.EncodeToString(job.Version.Leaf)}
	if code, known := reasonFor(job.Reason).Code(); known && code != 0 {
		reason := uint(code)
		request.Reason = &reason
	}
	err = s.Certificates.Revoke(request)
	if err == nil {
		return nil
	}
	var problem *legoacme.ProblemDetails
	if errors.As(err, &problem) && strings.TrimPrefix(problem.Type, problemPrefix) == "alreadyRevoked" {
		return nil
	}
	return shown(s.transport.failed(err, "the CA does not revoke it"))
}

// reasonFor maps reasons that CAs do not take from subscribers.
func reasonFor(r certctl.RevocationReason) certctl.RevocationReason {
	for _, known := range Reasons {
		if r == known {
			return r
		}
	}
	return certctl.ReasonUnspecified
}

// shown is an IssueError as the error that people are shown.
func shown(err error) error {
	var said *certctl.IssueError
	if errors.As(err, &said) {
		return certctl.Wrap(certctl.Unavailable, said, "%s", said.Message)
	}
	return err
}
