package handlers

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/certctl/certctl"
	"github.com/rs/zerolog"
)

// RecordStore knows which validation records are to be looked at.
type RecordStore interface {
	RecordJobs(ctx context.Context, ids []certctl.ID) ([]certctl.RecordJob, error)
	FinishRecords(ctx context.Context, checks []certctl.RecordCheck) error
	Now(ctx context.Context) (time.Time, error)
}

// RecordWatcher is a CA for which names are proven by records that stand.
type RecordWatcher interface {
	FindRecord(ctx context.Context, record certctl.ValidationRecord) (certctl.RecordFinding, error)
}

// recordLooks is how many records are looked at at once.
const recordLooks = 16

// Records looks at validation records where their servers are.
type Records struct {
	store RecordStore
	open  OpenCA
	log   zerolog.Logger
}

// NewRecords returns the handler.
func NewRecords(store RecordStore, open OpenCA, log zerolog.Logger) *Records {
	return &Records{store: store, open: open, log: log}
}

// Handle looks at the records that the hint names.
func (h *Records) Handle(ctx context.Context, hint certctl.Hint) error {
	jobs, err := h.store.RecordJobs(ctx, hint.IDs)
	if err != nil || len(jobs) == 0 {
		return err
	}
	now, err := h.store.Now(ctx)
	if err != nil {
		return err
	}
	watchers := map[certctl.ID]opened{}
	for _, job := range jobs {
		if _, known := watchers[job.Issuer.ID]; !known {
			ca, err := h.open(ctx, job.Issuer, job.Sealed)
			watchers[job.Issuer.ID] = opened{ca, err}
		}
	}
	checks := make([]certctl.RecordCheck, len(jobs))
	parallel(len(jobs), recordLooks, func(i int) {
		r := jobs[i].Record
		check := certctl.RecordCheck{Record: r.ID, Value: r.Value}
		check.Finding, check.Err = watchers[jobs[i].Issuer.ID].find(ctx, r)
		check.NextAt = certctl.NextRecordCheck(check.Finding, now, rand.Float64())
		if check.Err != nil {
			check.NextAt = now.Add(certctl.Backoff(r.Failures+1, rand.Float64()))
			h.log.Warn().Err(check.Err).Str("record", r.Record).Msg("a validation record cannot be looked at")
		}
		checks[i] = check
	})
	return h.store.FinishRecords(context.WithoutCancel(ctx), checks)
}

func (o opened) find(ctx context.Context, r certctl.ValidationRecord) (certctl.RecordFinding, error) {
	if o.err != nil {
		return certctl.RecordFinding{}, o.err
	}
	watcher, can := o.ca.(RecordWatcher)
	if !can {
		return certctl.RecordFinding{State: certctl.RecordUnneeded}, nil
	}
	return watcher.FindRecord(ctx, r)
}
