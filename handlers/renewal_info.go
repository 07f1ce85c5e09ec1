package handlers

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// RenewalInfoStore knows which leaves are to be asked about.
type RenewalInfoStore interface {
	RenewalInfoJobs(ctx context.Context, ids []certctl.ID) ([]certctl.RenewalInfoJob, error)
	FinishRenewalInfo(ctx context.Context, ends []certctl.RenewalInfoEnd) error
	Now(ctx context.Context) (time.Time, error)
}

// RenewalInformer is a CA that may say when it would have a leaf renewed. The
// zero RenewalInfo is that of one that says nothing; beside an error, RetryAfter may
// say when to ask again.
type RenewalInformer interface {
	RenewalInfo(ctx context.Context, leaf []byte) (certctl.RenewalInfo, error)
}

// renewalInfoAsks is how many leaves are asked about at once.
const renewalInfoAsks = 16

// RenewalInfo asks CAs when they would have their leaves renewed.
type RenewalInfo struct {
	store RenewalInfoStore
	open  OpenCA
	log   zerolog.Logger
}

// NewRenewalInfo returns the handler.
func NewRenewalInfo(store RenewalInfoStore, open OpenCA, log zerolog.Logger) *RenewalInfo {
	return &RenewalInfo{store: store, open: open, log: log}
}

// Handle asks about the versions that the hint names. A CA that cannot be reached
// is not asked about the rest of them.
func (h *RenewalInfo) Handle(ctx context.Context, hint certctl.Hint) error {
	jobs, err := h.store.RenewalInfoJobs(ctx, hint.IDs)
	if err != nil || len(jobs) == 0 {
		return err
	}
	now, err := h.store.Now(ctx)
	if err != nil {
		return err
	}
	ends := make([]certctl.RenewalInfoEnd, len(jobs))
	asked := h.openAll(ctx, jobs)
	var down atomic.Pointer[certctl.RenewalInfoEnd]
	parallel(len(jobs), renewalInfoAsks, func(i int) {
		end := certctl.RenewalInfoEnd{Version: jobs[i].Version.ID, Draw: rand.Float64()}
		if failed := down.Load(); failed != nil {
			end.Info.RetryAfter, end.Err = failed.Info.RetryAfter, failed.Err
		} else {
			end.Info, end.Err = asked[jobs[i].Issuer.ID].about(ctx, jobs[i].Version.Leaf)
		}
		end.NextAt = certctl.NextRenewalInfo(end.Info, now, rand.Float64())
		if end.Err != nil {
			end.NextAt = now.Add(max(certctl.Backoff(jobs[i].Failures+1, rand.Float64()), end.Info.RetryAfter))
			if certctl.ErrorCode(end.Err) == certctl.Unavailable {
				down.Store(&end)
			}
		}
		ends[i] = end
	})
	if failed := down.Load(); failed != nil {
		h.log.Warn().Err(failed.Err).Str("issuer", jobs[0].Issuer.Name).Msg("the CA does not say when to renew")
	}
	return h.store.FinishRenewalInfo(context.WithoutCancel(ctx), ends)
}

// opened is a CA, or why it cannot be asked.
type opened struct {
	ca  CA
	err error
}

// openAll opens each issuer once: its secrets are unsealed for that.
func (h *RenewalInfo) openAll(ctx context.Context, jobs []certctl.RenewalInfoJob) map[certctl.ID]opened {
	all := map[certctl.ID]opened{}
	for _, job := range jobs {
		if _, known := all[job.Issuer.ID]; !known {
			ca, err := h.open(ctx, job.Issuer, job.Sealed)
			all[job.Issuer.ID] = opened{ca, err}
		}
	}
	return all
}

func (o opened) about(ctx context.Context, leaf []byte) (certctl.RenewalInfo, error) {
	if o.err != nil {
		return certctl.RenewalInfo{}, o.err
	}
	informer, can := o.ca.(RenewalInformer)
	if !can {
		return certctl.RenewalInfo{}, nil
	}
	return informer.RenewalInfo(ctx, leaf)
}
