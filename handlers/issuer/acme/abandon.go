package acme

import (
	"context"

	"github.com/certctl/certctl"
	legoacme "github.com/go-acme/lego/v4/acme"
)

// Abandon ends the CA's order of an attempt: proofs are removed, authorizations
// that are not valid yet are given back, so that nothing can be signed any more.
// A certificate that has been signed is returned. While the CA signs, the error
// says that it is too early.
func (c *CA) Abandon(ctx context.Context, job certctl.AbandonJob) (certctl.Issued, error) {
	recorded, err := parseState(job.Attempt.State)
	if err != nil {
		return certctl.Issued{}, err
	}
	if err := c.removeRecords(ctx, recorded); err != nil {
		return certctl.Issued{}, shown(err)
	}
	if job.Attempt.ExternalURL == "" {
		return certctl.Issued{}, nil
	}
	s, _, err := c.open(ctx)
	if err != nil {
		return certctl.Issued{}, shown(err)
	}
	o, err := s.Orders.Get(job.Attempt.ExternalURL)
	if err != nil {
		if failure := s.transport.failed(err, "the CA's order cannot be read"); failure.Code != "acme_notFound" {
			return certctl.Issued{}, shown(failure)
		}
		return certctl.Issued{}, nil // it has expired
	}
	switch o.Status {
	case legoacme.StatusValid:
		issued, err := c.fetch(s, o.Certificate)
		return issued, shown(err)
	case legoacme.StatusProcessing:
		return certctl.Issued{}, certctl.Errorf(certctl.Unavailable, "the CA is signing")
	case legoacme.StatusPending, legoacme.StatusReady:
		return certctl.Issued{}, shown(giveBack(s, o.Authorizations, o.Status == legoacme.StatusReady))
	}
	return certctl.Issued{}, nil
}

// giveBack deactivates authorizations (RFC 8555 section 7.5.2). Those that are valid
// stay for the next order, unless the CA could sign with them.
func giveBack(s *session, urls []string, ready bool) error {
	for _, url := range urls {
		authorization, err := s.Authorizations.Get(url)
		if err != nil {
			return s.transport.failed(err, "the CA's authorization cannot be read")
		}
		if authorization.Status != legoacme.StatusPending && (!ready || authorization.Status != legoacme.StatusValid) {
			continue
		}
		if err := s.Authorizations.Deactivate(url); err != nil {
			return s.transport.failed(err, "the CA does not give an authorization back")
		}
		if ready {
			return nil // one is enough
		}
	}
	return nil
}
