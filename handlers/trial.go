package handlers

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// TrialStore knows which tests are to go on.
type TrialStore interface {
	TrialJobs(ctx context.Context, ids []certctl.ID, worker string, lease time.Duration) ([]certctl.TrialJob, error)
	GiveTrialCSR(ctx context.Context, id certctl.ID, worker string, csr []byte) error
	FinishTrial(ctx context.Context, end certctl.TrialEnd) error
	CleanTrial(ctx context.Context, id certctl.ID, worker string, cause error, retryAt time.Time) error
	Now(ctx context.Context) (time.Time, error)
}

// trialLease is how long a worker has a test without a word: longer than a call to
// a CA may take.
const trialLease = 4 * time.Minute

// Trials tests certificates: see certctl.Trial.
type Trials struct {
	store  TrialStore
	open   OpenCA // of issuers as they are asked for tests
	worker string
	log    zerolog.Logger
}

// NewTrials returns the handler.
func NewTrials(store TrialStore, open OpenCA, worker string, log zerolog.Logger) *Trials {
	return &Trials{store: store, open: open, worker: worker, log: log}
}

// Handle goes on with the tests that the hint names, and cleans up after those that
// have ended.
func (h *Trials) Handle(ctx context.Context, hint certctl.Hint) error {
	errs := make([]error, len(hint.IDs))
	// All of them at once: none takes time that another one has.
	parallel(len(errs), len(errs), func(i int) { errs[i] = h.one(ctx, hint.IDs[i]) })
	return errors.Join(errs...)
}

// one goes on with a test, if it is there to go on with.
func (h *Trials) one(ctx context.Context, id certctl.ID) error {
	jobs, err := h.store.TrialJobs(ctx, []certctl.ID{id}, h.worker, trialLease)
	if err != nil || len(jobs) == 0 {
		return err
	}
	return h.handle(ctx, jobs[0])
}

func (h *Trials) handle(ctx context.Context, job certctl.TrialJob) error {
	ca, openErr := h.open(ctx, job.Issuer, job.Sealed)
	if job.Trial.Outcome == certctl.TrialRunning {
		end, err := h.test(ctx, ca, openErr, job)
		if err != nil {
			return err
		}
		if err := h.store.FinishTrial(context.WithoutCancel(ctx), end); err != nil || end.Outcome == certctl.TrialRunning {
			return err
		}
		h.log.Info().Stringer("test", job.Trial.ID).Str("name", job.Trial.Name).Str("outcome", string(end.Outcome)).Str("code", end.Code).Msg("certificate tested")
		// What the test has recorded is read again: it says what there is to remove.
		return h.one(context.WithoutCancel(ctx), job.Trial.ID)
	}
	return h.clean(ctx, ca, openErr, job)
}

// test goes on as far as it can. What it cannot record is its error, and no outcome.
func (h *Trials) test(ctx context.Context, ca CA, openErr error, job certctl.TrialJob) (certctl.TrialEnd, error) {
	end := certctl.TrialEnd{ID: job.Trial.ID, Worker: h.worker, Outcome: certctl.TrialPassed}
	now, err := h.store.Now(ctx)
	if err != nil {
		return end, err
	}
	if now.After(job.Trial.CreatedAt.Add(certctl.TrialPatience)) {
		return tooLong(end, job.Trial.Message), nil
	}
	if openErr != nil {
		return outcome(end, job.Trial, openErr, now), nil
	}
	order := certctl.Order{ID: job.Trial.ID, Names: job.Trial.Names, Profile: job.Profile, Issuer: job.Issuer.ID, CSR: job.CSR}
	if len(order.CSR) == 0 {
		if order.CSR, err = throwawayCSR(job.Profile, job.Trial.Names); err != nil {
			return end, err
		}
		if err := h.store.GiveTrialCSR(ctx, job.Trial.ID, h.worker, order.CSR); err != nil {
			return end, err
		}
	}
	var issued certctl.Issued
	asking, err := ca.Prepare(ctx, certctl.IssueJob{Order: order, Team: job.Trial.Team, Issuer: job.Issuer, ReadAt: now}, now)
	if err == nil {
		issued, err = asking.Ask(ctx, job.Attempt)
	}
	if notRecorded(ctx, err) {
		return end, err
	}
	if err == nil {
		_, err = issued.Check(order)
	}
	return outcome(end, job.Trial, err, now), nil
}

// notRecorded reports whether an error says nothing of the CA or the certificate:
// the database could not be asked, another worker has the test, or this one is to
// stop.
func notRecorded(ctx context.Context, err error) bool {
	var pause *certctl.Pause
	var said *certctl.IssueError
	if err == nil || errors.As(err, &pause) {
		return false
	}
	if ctx.Err() != nil {
		return true
	}
	if errors.As(err, &said) {
		return false
	}
	code := certctl.ErrorCode(err)
	return code == certctl.Unavailable || code == certctl.Internal || code == certctl.Conflict
}

// tooLong ends a test that has not ended in time, with what it waited for last.
func tooLong(end certctl.TrialEnd, last string) certctl.TrialEnd {
	if last == "" {
		last = "see the workers' logs for what they could not do"
	}
	end.Outcome, end.Wait, end.Code = certctl.TrialFailed, certctl.WaitNone, "timeout"
	end.Message = "not done within " + certctl.Duration(certctl.TrialPatience).String() + ": " + last
	return end
}

// outcome says what an error means for a test. Waiting is none, for a while;
// whatever an order would be tried again after has failed here, since whoever asked
// wants to know it.
func outcome(end certctl.TrialEnd, trial certctl.Trial, err error, now time.Time) certctl.TrialEnd {
	if err == nil {
		return end
	}
	var pause *certctl.Pause
	if errors.As(err, &pause) {
		end.Outcome, end.Wait, end.Message, end.RetryAt = certctl.TrialRunning, pause.Wait, pause.Message, now.Add(pause.After)
		if end.RetryAt.After(trial.CreatedAt.Add(certctl.TrialPatience)) {
			return tooLong(end, pause.Message)
		}
		return end
	}
	failure := issueError(err)
	end.Outcome, end.Code, end.Message = certctl.TrialFailed, failure.Code, failure.Message
	return end
}

// clean removes what a test has left at the CA, in the DNS and on nodes.
func (h *Trials) clean(ctx context.Context, ca CA, err error, job certctl.TrialJob) error {
	now, nowErr := h.store.Now(ctx)
	if nowErr != nil {
		return nowErr
	}
	if abandoner, can := ca.(Abandoner); err == nil && can && job.Trial.Outcome == certctl.TrialFailed {
		// A leaf that came of it nevertheless is of no use, and of nobody's trust.
		_, err = abandoner.Abandon(ctx, certctl.AbandonJob{ID: job.Trial.ID, Order: certctl.Order{ID: job.Trial.ID}, Attempt: job.Attempt, Issuer: job.Issuer})
	}
	if err != nil {
		h.log.Warn().Err(err).Stringer("test", job.Trial.ID).Int("tries", job.Tries+1).Msg("what a test has left is not removed yet")
	}
	return h.store.CleanTrial(context.WithoutCancel(ctx), job.Trial.ID, h.worker, err, now.Add(certctl.Backoff(job.Tries+1, mathrand.Float64())))
}

// throwawayCSR asks for names with a key that is gone when it returns.
func throwawayCSR(profile certctl.Profile, names certctl.Names) ([]byte, error) {
	algorithm := certctl.ECDSAP256
	if len(profile.KeyAlgorithms) > 0 {
		algorithm = profile.KeyAlgorithms[0]
	}
	key, err := algorithm.Generate()
	if err != nil {
		return nil, err
	}
	template := &x509.CertificateRequest{DNSNames: names.DNS, EmailAddresses: names.Email}
	for _, addr := range names.IP {
		template.IPAddresses = append(template.IPAddresses, addr.AsSlice())
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, certctl.Wrap(certctl.Internal, err, "no request can be made for the test")
	}
	return der, nil
}
