package handlers

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// IssueStore hands out orders that may be asked for, and records what came of
// asking.
type IssueStore interface {
	ReadyOrders(ctx context.Context, ids []certctl.ID) ([]certctl.IssueJob, error)
	BeginIssue(ctx context.Context, worker string, lease time.Duration, starts []certctl.AttemptStart) ([]certctl.Attempt, error)
	ExtendLease(ctx context.Context, order certctl.ID, n int, worker string, lease time.Duration) error
	FinishIssue(ctx context.Context, ends []certctl.AttemptEnd) ([]certctl.FinishResult, error)
	Now(ctx context.Context) (time.Time, error)
}

// CA asks one authority for leaves. Prepare says what is about to be asked, and
// is recorded before Ask acts; an attempt whose lease ran out, or that was paused,
// is prepared again with what was recorded, so that it is resumed rather than
// repeated.
type CA interface {
	Prepare(ctx context.Context, job certctl.IssueJob, at time.Time) (certctl.Asking, error)
}

// OpenCA returns the CA of an issuer.
type OpenCA func(ctx context.Context, issuer certctl.Issuer, sealed []byte) (CA, error)

// Issue turns orders that are ready into leaves.
type Issue struct {
	store  IssueStore
	open   OpenCA
	worker string // names this process in attempts
	lease  time.Duration
	asks   int // orders that are worked on at once
	log    zerolog.Logger
}

// issueLease is how long an attempt belongs to its worker without a sign of
// life; it is extended while the CA is being asked.
const issueLease = 30 * time.Second

// NewIssue returns the handler of one process.
func NewIssue(store IssueStore, open OpenCA, worker string, log zerolog.Logger) *Issue {
	return &Issue{store: store, open: open, worker: worker, lease: issueLease, asks: runtime.GOMAXPROCS(0), log: log}
}

// NewForeignIssue returns the handler of one process for CAs that are not its own:
// it waits for them, which costs no CPU. asks is how many orders of one hint it asks
// for at once.
func NewForeignIssue(store IssueStore, open OpenCA, worker string, asks int, log zerolog.Logger) *Issue {
	h := NewIssue(store, open, worker, log)
	h.asks = asks
	return h
}

// work is one order on its way through Handle.
type work struct {
	job     certctl.IssueJob
	asking  certctl.Asking
	refused error // preparing failed: the attempt is recorded and ends with this
	informs bool  // the CA may say when it would have the leaf renewed
}

// Handle asks for the orders that the hint names, as far as they are ready:
// what will be asked is committed first, then the CA is asked, then the outcome
// is committed. Orders that another worker has, or that have moved on, are left
// alone.
func (h *Issue) Handle(ctx context.Context, hint certctl.Hint) error {
	jobs, err := h.store.ReadyOrders(ctx, hint.IDs)
	if err != nil || len(jobs) == 0 {
		return err
	}
	now := jobs[0].ReadAt
	works := h.prepare(ctx, jobs, now)
	starts := make([]certctl.AttemptStart, len(jobs))
	byOrder := make(map[certctl.ID]work, len(jobs))
	for i, w := range works {
		starts[i] = w.asking.Start
		byOrder[w.job.Order.ID] = w
	}
	attempts, err := h.store.BeginIssue(ctx, h.worker, h.lease, starts)
	if err != nil || len(attempts) == 0 {
		return err
	}
	ends := h.ask(ctx, attempts, byOrder)
	results, err := h.store.FinishIssue(context.WithoutCancel(ctx), ends)
	if err != nil {
		return err
	}
	h.logEnds(ends, results, time.Since(now))
	return nil
}

// prepare opens the issuers and prepares the attempts, on all cores.
func (h *Issue) prepare(ctx context.Context, jobs []certctl.IssueJob, now time.Time) []work {
	works := make([]work, len(jobs))
	cas := map[certctl.ID]CA{}
	errs := map[certctl.ID]error{}
	for _, job := range jobs {
		if _, known := cas[job.Issuer.ID]; !known {
			cas[job.Issuer.ID], errs[job.Issuer.ID] = h.open(ctx, job.Issuer, job.Sealed)
		}
	}
	parallel(len(jobs), h.asks, func(i int) {
		job := jobs[i]
		w := work{job: job, refused: errs[job.Issuer.ID]}
		at := now
		if job.Previous != nil {
			at = job.Previous.StartedAt
		}
		if w.refused == nil {
			w.asking, w.refused = cas[job.Issuer.ID].Prepare(ctx, job, at)
			_, w.informs = cas[job.Issuer.ID].(RenewalInformer)
		}
		start := &w.asking.Start
		start.Order, start.Revision, start.Issuer, start.StartedAt = job.Order.ID, job.Order.Revision, job.Issuer.ID, at
		works[i] = w
	})
	return works
}

// ask gets the leaves of the attempts that are ours, extending their leases
// meanwhile.
func (h *Issue) ask(ctx context.Context, attempts []certctl.Attempt, byOrder map[certctl.ID]work) []certctl.AttemptEnd {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go h.extend(ctx, attempts)
	ends := make([]certctl.AttemptEnd, len(attempts))
	parallel(len(attempts), h.asks, func(i int) {
		w := byOrder[attempts[i].Order]
		ends[i] = h.askOne(ctx, attempts[i], w)
	})
	return ends
}

func (h *Issue) askOne(ctx context.Context, attempt certctl.Attempt, w work) certctl.AttemptEnd {
	end := certctl.AttemptEnd{Order: attempt.Order, N: attempt.N, Worker: h.worker, Authority: attempt.Authority}
	err := w.refused
	var issued certctl.Issued
	if err == nil {
		issued, err = w.asking.Ask(ctx, attempt)
	}
	if err == nil {
		var leaf certctl.Leaf
		if leaf, err = issued.Check(w.job.Order); err == nil {
			end.Leaf, end.Chain = issued.Leaf, issued.Chain
			end.RenewAt, _ = certctl.RenewAt(leaf.NotBefore, leaf.NotAfter, w.job.Policy, rand.Float64())
			if w.informs {
				end.AskAt = certctl.FirstRenewalInfo(leaf.NotBefore, leaf.NotAfter, attempt.StartedAt, rand.Float64())
			}
			return end
		}
	}
	now := attempt.StartedAt
	if database, err := h.store.Now(context.WithoutCancel(ctx)); err == nil {
		now = database
	}
	var pause *certctl.Pause
	if errors.As(err, &pause) {
		end.Pause, end.Message, end.RetryAt = pause.Wait, pause.Message, now.Add(pause.After)
		return end
	}
	end.Err = issueError(err)
	if end.Err.Resume {
		end.Pause = certctl.WaitBackoff
	}
	retry, again := certctl.NextTry(end.Err, max(attempt.N-w.job.Order.Waived, 1), now, rand.Float64())
	end.RetryAt, end.Refuse = retry, !again
	return end
}

// extend keeps the leases while the CA is being asked.
func (h *Issue) extend(ctx context.Context, attempts []certctl.Attempt) {
	ticker := time.NewTicker(h.lease / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, attempt := range attempts {
			if err := h.store.ExtendLease(ctx, attempt.Order, attempt.N, h.worker, h.lease); err != nil && ctx.Err() == nil {
				h.log.Warn().Err(err).Stringer("order", attempt.Order).Msg("lease not extended")
			}
		}
	}
}

func (h *Issue) logEnds(ends []certctl.AttemptEnd, results []certctl.FinishResult, took time.Duration) {
	issued, paused, stale := 0, 0, 0
	for _, result := range results {
		if result.Stale {
			stale++
		}
	}
	for _, end := range ends {
		switch {
		case end.Err != nil:
		case end.Paused():
			paused++
			continue
		default:
			issued++
			continue
		}
		h.log.Warn().Err(end.Err).Stringer("order", end.Order).Int("attempt", end.N).
			Str("code", end.Err.Code).Bool("refused", end.Refuse).Bool("goes_on", end.Paused()).Time("retry_at", end.RetryAt).Msg("attempt failed")
	}
	h.log.Info().Int("orders", len(ends)).Int("issued", issued).Int("paused", paused).Int("stale", stale).Dur("took", took).Msg("issued")
}

// issueError gives every failure a kind: what the CA or our own checks said, or
// retryable.
func issueError(err error) *certctl.IssueError {
	var said *certctl.IssueError
	if errors.As(err, &said) {
		return said
	}
	kind, code := certctl.FailRetryable, string(certctl.ErrorCode(err))
	switch certctl.ErrorCode(err) {
	case certctl.Invalid, certctl.Denied:
		kind = certctl.FailRefused
	case certctl.Conflict, certctl.NotFound:
		kind = certctl.FailMisconfigured
	}
	return &certctl.IssueError{
		Kind: kind, Code: code, Message: certctl.ErrorMessage(err), Outage: certctl.ErrorCode(err) == certctl.Unavailable, Cause: err,
	}
}

// parallel calls do for 0…n-1 on at most so many goroutines.
func parallel(n, most int, do func(i int)) {
	workers := min(n, most)
	if workers <= 1 {
		for i := range n {
			do(i)
		}
		return
	}
	var group sync.WaitGroup
	for start := range workers {
		group.Go(func() {
			for i := start; i < n; i += workers {
				do(i)
			}
		})
	}
	group.Wait()
}
