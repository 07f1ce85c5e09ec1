package acme

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"
)

// twinPause is how soon an order looks again whether another one for the same
// names has ended.
const twinPause = 5 * time.Second

// order makes the CA's order, once no other of the account has the same names.
func (a *attempt) order(ctx context.Context) (step, error) {
	names := identifiers(a.job.Order.Names)
	slices.Sort(names)
	held, err := a.ca.store.HoldExternal(ctx, certctl.ExternalHold{
		Account: a.account.ID, Issuer: a.ca.issuer.ID, Order: a.attempt.Order, Names: certctl.DigestOf([]byte(strings.Join(names, "\n"))),
	})
	if err != nil {
		return "", err
	}
	if !held {
		return "", &certctl.Pause{After: twinPause, Wait: certctl.WaitTwin, Message: "another order asks this CA for the same names"}
	}
	made, err := a.session.Orders.NewWithOptions(names, &api.OrderOptions{Profile: a.ca.settings.Profile})
	if err != nil {
		return "", a.session.transport.failed(err, "the CA takes no order for %s", strings.Join(names, ", "))
	}
	if made.Location == "" {
		return "", a.session.transport.failed(nil, "the CA names no order")
	}
	a.attempt.ExternalURL, a.state.Finalize = made.Location, made.Finalize
	a.state.Proofs = nil
	for _, url := range made.Authorizations {
		a.state.Proofs = append(a.state.Proofs, proof{URL: url})
	}
	return stepProve, nil
}

// finalize sends the request when the CA is ready for it, and waits for the
// certificate. An answer that was lost is no matter: the order tells.
func (a *attempt) finalize() (step, error) {
	o, err := a.read()
	if err != nil {
		return "", err
	}
	if o.Status == legoacme.StatusReady {
		sent, err := a.session.Orders.UpdateForCSR(a.state.Finalize, a.job.Order.CSR)
		if err != nil {
			return "", a.session.transport.failed(err, "the CA does not take the request")
		}
		o = sent.Order
	}
	switch o.Status {
	case legoacme.StatusValid:
		a.state.Certificate = o.Certificate
		return stepDownload, nil
	case legoacme.StatusProcessing, legoacme.StatusReady:
		return "", a.wait("the CA is signing")
	case legoacme.StatusPending:
		return stepProve, nil
	}
	return "", orderInvalid(o)
}

// read returns the CA's order.
func (a *attempt) read() (legoacme.Order, error) {
	o, err := a.session.Orders.Get(a.attempt.ExternalURL)
	if err != nil {
		return o.Order, a.session.transport.failed(err, "the CA's order cannot be read")
	}
	return o.Order, nil
}

// orderInvalid ends the attempt: the next one makes another order.
func orderInvalid(o legoacme.Order) *certctl.IssueError {
	if o.Error != nil {
		e := problemError(o.Error, "the CA has given the order up")
		e.Resume = false
		return e
	}
	return &certctl.IssueError{
		Kind: certctl.FailRetryable, Code: "acme_order_invalid", RetryAfter: validationPause,
		Message: "the CA's order is " + certctl.Clip(o.Status, 20) + ", and the CA does not say why",
	}
}
