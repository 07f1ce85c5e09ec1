package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
)

// pauseAttempts lets attempts go on by themselves at their CAs: they belong to
// nobody, give their slots back, and are looked at again when their orders are due.
func (t *tx) pauseAttempts(ctx context.Context, paused []*finishing) error {
	n := len(paused)
	if n == 0 {
		return nil
	}
	ids, waits, codes, messages := make([]certctl.ID, n), make([]string, n), make([]string, n), make([]string, n)
	again := make([]dueRow, n)
	for i, f := range paused {
		ids[i], waits[i], messages[i] = f.order.ID, string(f.end.Pause), certctl.Clip(f.end.Message, 1000)
		at := maxTime(f.end.RetryAt, t.now.Add(time.Second))
		again[i] = dueRow{kind: dueOrder, id: f.order.ID, verb: certctl.HintIssue, lane: f.order.Issuer.String(), urgency: f.order.Urgency, at: at}
		if f.end.Err == nil {
			continue
		}
		codes[i], messages[i] = certctl.Clip(f.end.Err.Code, 100), certctl.Clip(f.end.Err.Message, 1000)
		t.eventOutcome(f.team, certctl.AggregateCertificate, f.order.Certificate, certctl.EventOrderDelayed, certctl.OutcomeFailure, map[string]any{
			"certificate": f.order.Certificate, "name": f.name, "order": f.order.ID, "holder": f.order.Holder,
			"issuer": f.order.Issuer, "attempt": f.end.N, "code": codes[i], "retry_at": at,
		})
	}
	if err := t.put(ctx, `
		update attempt a set paused = true, lease_until = now() from cert_order o
		where o.id = any($1) and a.order_id = o.id and a.n = o.attempts`, ids); err != nil {
		return err
	}
	if err := t.put(ctx, `delete from issuer_slot where order_id = any($1)`, ids); err != nil {
		return err
	}
	if err := t.put(ctx, `
		update cert_order o set wait = new.wait, error_code = new.code, message = new.message, lost_leases = 0, updated_at = now()
		from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as new(id, wait, code, message) where o.id = new.id`,
		ids, waits, codes, messages); err != nil {
		return err
	}
	return t.due(ctx, again...)
}

// beginOrGoOn begins new attempts, and takes over those that were paused.
func (t *tx) beginOrGoOn(ctx context.Context, mine []*starting, worker string, until time.Time) ([]certctl.Attempt, error) {
	mine, going := goingFirst(mine)
	begun, err := t.goOn(ctx, mine[:going], worker, until)
	if err != nil || going == len(mine) {
		return begun, err
	}
	fresh, err := t.begin(ctx, mine[going:], worker, until)
	return append(begun, fresh...), err
}

// goOn gives paused attempts to a worker until the lease runs out. They keep
// their numbers: a pause is no failure.
func (t *tx) goOn(ctx context.Context, going []*starting, worker string, until time.Time) ([]certctl.Attempt, error) {
	n := len(going)
	if n == 0 {
		return nil, nil
	}
	begun, orders, rows := make([]certctl.Attempt, n), make([]certctl.ID, n), make([]dueRow, n)
	for i, s := range going {
		a := s.last
		a.Order, a.Issuer, a.Worker, a.LeaseUntil, a.StartedAt = s.start.Order, s.start.Issuer, worker, until, s.start.StartedAt
		begun[i], orders[i] = a, a.Order
		rows[i] = dueRow{kind: dueOrder, id: a.Order, verb: certctl.HintIssue, lane: a.Issuer.String(), at: until}
	}
	if err := t.put(ctx, `
		update attempt a set paused = false, worker = $2, lease_until = $3 from cert_order o
		where o.id = any($1) and a.order_id = o.id and a.n = o.attempts and a.outcome = ''`, orders, worker, until); err != nil {
		return nil, err
	}
	if err := t.put(ctx, `update cert_order set updated_at = now() where id = any($1)`, orders); err != nil {
		return nil, err
	}
	return begun, t.due(ctx, rows...)
}
