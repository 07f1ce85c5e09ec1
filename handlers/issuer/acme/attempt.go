package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/certctl/certctl"
)

// attempt is one attempt on its way through the steps.
type attempt struct {
	ca      *CA
	job     certctl.IssueJob
	attempt certctl.Attempt
	session *session
	account identity
	state   state
	issued  certctl.Issued // after the last step
}

// Prepare checks what can be checked without asking anybody. What is resumed
// follows from what the attempt has recorded.
func (c *CA) Prepare(_ context.Context, job certctl.IssueJob, _ time.Time) (certctl.Asking, error) {
	if err := c.checkOrder(job.Order); err != nil {
		return certctl.Asking{}, err
	}
	return certctl.Asking{Ask: func(ctx context.Context, a certctl.Attempt) (certctl.Issued, error) {
		return c.ask(ctx, job, a)
	}}, nil
}

// checkOrder refuses what no ACME server can issue from.
func (c *CA) checkOrder(o certctl.Order) error {
	if len(o.Names.URI) > 0 || len(o.Names.Email) > 0 {
		return refused("acme_names", "ACME knows DNS names and addresses only: remove the URIs and e-mail addresses, or use another issuer")
	}
	csr, err := x509.ParseCertificateRequest(o.CSR)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the order's CSR cannot be read")
	}
	names, err := certctl.NamesOfCSR(csr)
	if err != nil || !names.Equal(o.Names) {
		return refused("acme_csr", "the request must name exactly what is ordered (%v): ACME servers read the names from it", o.Names.Strings())
	}
	for _, name := range identifiers(o.Names) {
		if _, ok := c.settings.rule(name); !ok {
			return misconfigured(nil, "no rule under challenges of the issuer %s proves %s: wildcards need dns-01, addresses http-01", c.issuer.Name, name)
		}
	}
	return nil
}

// identifiers are names as an order lists them (RFC 8555 section 7.1.3, RFC 8738).
func identifiers(n certctl.Names) []string {
	out := append([]string{}, n.DNS...)
	for _, addr := range n.IP {
		out = append(out, addr.String())
	}
	return out
}

func (c *CA) ask(ctx context.Context, job certctl.IssueJob, recorded certctl.Attempt) (certctl.Issued, error) {
	a := &attempt{ca: c, job: job, attempt: recorded}
	var err error
	if a.state, err = parseState(recorded.State); err != nil {
		return certctl.Issued{}, err
	}
	err = a.run(ctx)
	if err != nil && ctx.Err() != nil {
		// Whoever goes on finds what was recorded.
		return certctl.Issued{}, &certctl.Pause{After: time.Second, Wait: certctl.WaitBackoff, Message: "its worker stopped; another one goes on"}
	}
	return a.issued, err
}

// run takes steps until the certificate is there, something is to be waited for,
// or something fails. Each step is recorded before the next one begins.
func (a *attempt) run(ctx context.Context) error {
	var err error
	if a.session, a.account, err = a.ca.open(ctx); err != nil {
		return a.failed(ctx, err)
	}
	if a.state.Step == stepOrder {
		if err := a.began(ctx); err != nil {
			return err
		}
	}
	for {
		next, err := a.step(ctx)
		if err != nil {
			return a.failed(ctx, err)
		}
		if next != a.state.Step {
			a.state.Step, a.state.Failures, a.state.Polls = next, 0, 0
		}
		if len(a.issued.Leaf) > 0 {
			return nil
		}
		if err := a.began(ctx); err != nil {
			return err
		}
		if err := a.save(ctx); err != nil {
			return err
		}
	}
}

// began tells people which step comes next, where the store wants to know.
func (a *attempt) began(ctx context.Context) error {
	recorder, tells := a.ca.store.(StepRecorder)
	if !tells {
		return nil
	}
	return recorder.RecordStep(ctx, a.attempt.Order, a.attempt.Worker, a.state.Step.spoken())
}

func (a *attempt) step(ctx context.Context) (step, error) {
	switch a.state.Step {
	case stepOrder:
		return a.order(ctx)
	case stepProve:
		return a.prove(ctx)
	case stepPresent:
		return a.present(ctx)
	case stepHold:
		return a.hold(ctx)
	case stepSpread:
		return a.spread(ctx)
	case stepAccept:
		return a.accept()
	case stepValidate:
		return a.validate(ctx)
	case stepClean:
		return a.clean(ctx)
	case stepFinalize:
		return a.finalize()
	case stepDownload:
		return a.download()
	}
	return "", certctl.Errorf(certctl.Internal, "the attempt is at the step %q, which a newer worker must have recorded", certctl.Clip(string(a.state.Step), 20))
}

// failed records a pause or a failure that the attempt survives, and spaces the
// next look.
func (a *attempt) failed(ctx context.Context, err error) error {
	var failure *certctl.IssueError
	var pause *certctl.Pause
	switch {
	case errors.As(err, &pause):
		a.state.Polls++
	case errors.As(err, &failure) && failure.Resume:
		a.state.Failures++
		failure.RetryAfter = max(failure.RetryAfter, certctl.Backoff(a.state.Failures, rand.Float64()))
	default:
		return err
	}
	if saveErr := a.save(ctx); saveErr != nil {
		return saveErr
	}
	return err
}

func (a *attempt) save(ctx context.Context) error {
	return a.ca.store.SaveAttemptState(ctx, a.attempt.Order, a.attempt.N, a.attempt.Worker, a.attempt.ExternalURL, a.state.encode())
}

// wait pauses until the CA is worth asking again: when it says, or sooner at first
// than later.
func (a *attempt) wait(message string) error {
	after := a.session.transport.wait()
	if after == 0 {
		after = min(time.Second<<min(a.state.Polls, 6), time.Minute)
	}
	return &certctl.Pause{After: min(after, time.Hour), Wait: certctl.WaitCA, Message: message}
}
