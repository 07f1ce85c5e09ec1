package store

import (
	"context"

	"github.com/certctl/certctl"
)

// submitCall is a submission that may share its transaction.
type submitCall struct {
	actor   certctl.Actor
	request certctl.CertificateRequest
	made    certctl.Submitted
	err     error
}

// ofOnePrincipal is whether one principal makes both calls: its rights then hold for
// all of the transaction.
func ofOnePrincipal(a, b *submitCall) bool { return a.actor.Principal.ID == b.actor.Principal.ID }

// submitGathered records submissions of one principal. When they fail as a whole,
// each is tried by itself, so that nobody fails for another's sake.
func (s *Store) submitGathered(ctx context.Context, calls []*submitCall) {
	err := s.submitting(ctx, calls[0].actor, func(t *tx) error {
		subs := make([]*submission, len(calls))
		for i, call := range calls {
			subs[i] = &submission{CertificateRequest: call.request, id: certctl.NewID(t.now).WithOrder(i), request: &call.actor}
		}
		if err := t.submit(ctx, subs); err != nil {
			return err
		}
		for i, sub := range subs {
			calls[i].made, calls[i].err = certctl.Submitted{}, sub.err
			if sub.err == nil {
				calls[i].made = sub.submitted(t.now)
			}
		}
		return nil
	})
	switch {
	case err == nil:
	case len(calls) == 1:
		calls[0].made, calls[0].err = certctl.Submitted{}, err
	default:
		for i := range calls {
			s.submitGathered(ctx, calls[i:i+1])
		}
	}
}
