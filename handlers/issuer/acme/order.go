package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
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
	if err := a.published(ctx, a.session.meta().known()); err != nil {
		return "", err
	}
	names := identifiers(a.job.Order.Names)
	slices.Sort(names)
	held, err := a.ca.store.HoldExternal(ctx, certctl.ExternalHold{
		Account: a.account.ID, Issuer: a.ca.issuer.ID, Order: a.attempt.Order, Names: namesDigest(names),
	})
	if err != nil {
		return "", err
	}
	if !held {
		return "", &certctl.Pause{After: twinPause, Wait: certctl.WaitTwin, Message: "another order asks this CA for the same names"}
	}
	made, err := a.newOrder(ctx, names)
	if err != nil {
		return "", err
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

// namesDigest stands for a set of names, which are sorted.
func namesDigest(names []string) certctl.Digest {
	return certctl.DigestOf([]byte(strings.Join(names, "\n")))
}

// newOrder asks for an order that replaces the predecessor (RFC 9773 section 5),
// which CAs count against no limit. A CA that refuses it as a replacement is asked
// once more without: what it thinks of the predecessor is no reason to have no
// successor. Orders that replace nothing are within the budgets.
func (a *attempt) newOrder(ctx context.Context, names []string) (legoacme.ExtendedOrder, error) {
	refusal := func(err error) error {
		return a.session.transport.failed(err, "the CA takes no order for %s", strings.Join(names, ", "))
	}
	options := &api.OrderOptions{Profile: a.ca.settings.Profile, ReplacesCertID: a.replaces()}
	if options.ReplacesCertID != "" {
		made, err := a.session.Orders.NewWithOptions(names, options)
		switch {
		case err == nil:
			return made, nil
		case !refusesReplacement(err):
			return made, refusal(err)
		}
		options.ReplacesCertID = ""
	}
	if err := a.spend(ctx, names); err != nil {
		return legoacme.ExtendedOrder{}, err
	}
	made, err := a.session.Orders.NewWithOptions(names, options)
	if err != nil {
		return made, refusal(err)
	}
	return made, nil
}

// renews reports whether the order is for exactly the names of the holder's version
// so far, of this CA.
func (a *attempt) renews() bool {
	old := a.job.Replaces
	if old.ID.IsZero() || old.Issuer != a.ca.issuer.ID {
		return false
	}
	leaf, err := x509.ParseCertificate(old.Leaf)
	if err != nil {
		return false
	}
	names := certctl.Names{DNS: leaf.DNSNames}
	for _, ip := range leaf.IPAddresses {
		addr, _ := netip.AddrFromSlice(ip)
		names.IP = append(names.IP, addr.Unmap())
	}
	before, now := identifiers(names), identifiers(a.job.Order.Names)
	slices.Sort(before)
	slices.Sort(now)
	return slices.Equal(before, now)
}

// replaces identifies the holder's version so far, if it is of this CA and has a
// name in common with what is ordered now. CAs without renewal information know no
// replacements.
func (a *attempt) replaces() string {
	old := a.job.Replaces
	if old.ID.IsZero() || old.Issuer != a.ca.issuer.ID || a.session.GetDirectory().RenewalInfo == "" {
		return ""
	}
	leaf, err := x509.ParseCertificate(old.Leaf)
	if err != nil || !slices.ContainsFunc(identifiers(a.job.Order.Names), func(name string) bool { return slices.Contains(leaf.DNSNames, name) }) {
		return ""
	}
	id, _ := certctl.RenewalInfoID(old.Leaf)
	return id
}

// refusesReplacement reports whether an order may be taken if it replaces nothing.
// What a CA says of a predecessor that it does not know, or not as ours, has many
// forms; what it says of us or of its limits would be the same again.
func refusesReplacement(err error) bool {
	var problem *legoacme.ProblemDetails
	if !errors.As(err, &problem) {
		return false
	}
	switch strings.TrimPrefix(problem.Type, problemPrefix) {
	case "rateLimited", "badNonce", "accountDoesNotExist", "userActionRequired", "rejectedIdentifier", "unsupportedIdentifier", "invalidProfile":
		return false
	}
	return true
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
