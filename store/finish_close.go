package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// closeIssued ends the orders of leaves that were stored, makes the leaves their
// holders' newest versions and sends them to the bindings.
func (t *tx) closeIssued(ctx context.Context, issued []*finishing) error {
	n := len(issued)
	if n == 0 {
		return nil
	}
	orders, attempts, versions, holders := make([]certctl.ID, n), make([]int32, n), make([]certctl.ID, n), make([]certctl.ID, n)
	var renewals []dueRow
	var never []certctl.ID
	for i, f := range issued {
		orders[i], attempts[i], versions[i], holders[i] = f.order.ID, int32(f.end.N), f.version, f.order.Holder //nolint:gosec // a counter
		switch {
		case f.ended:
		case f.revision > f.order.Revision: // changed while it was at the CA: the next one is due
			renewals = append(renewals, holderDue(f.order.Holder, t.now, f.leaf.NotAfter, t.now))
			t.hint(certctl.HintRenew, certctl.NoLane, f.order.Holder)
		case f.end.RenewAt.IsZero():
			never = append(never, f.order.Holder)
		default:
			renewals = append(renewals, holderDue(f.order.Holder, f.end.RenewAt, f.leaf.NotAfter, t.now))
		}
		t.event(f.team, certctl.AggregateCertificate, f.order.Certificate, certctl.EventCertificateIssued, issuedData(f))
	}
	if err := t.endAttempts(ctx, issued, certctl.AttemptIssued); err != nil {
		return err
	}
	if err := t.settle(ctx, issued); err != nil {
		return err
	}
	if err := t.put(ctx, `
		update cert_order o set state = 'issued', wait = '', error_code = '', message = '', version_id = new.version,
			updated_at = now(), closed_at = now()
		from unnest($1::uuid[], $2::uuid[]) as new(id, version) where o.id = new.id`, orders, versions); err != nil {
		return err
	}
	if err := t.put(ctx, `
		update holder h set version_id = new.version, kept_revision = 0, sealed_key = null -- an imported key was for the version before
		from unnest($1::uuid[], $2::uuid[]) as new(id, version)
		where h.id = new.id and h.ended_at is null`, holders, versions); err != nil {
		return err
	}
	if err := t.done(ctx, dueOrder, orders...); err != nil {
		return err
	}
	if err := t.done(ctx, dueHolder, never...); err != nil {
		return err
	}
	if err := t.due(ctx, renewals...); err != nil {
		return err
	}
	if err := t.watchIssued(ctx, issued); err != nil {
		return err
	}
	if err := t.askRenewalInfo(ctx, issued); err != nil {
		return err
	}
	if err := t.deploy(ctx, holders, versions); err != nil {
		return err
	}
	return t.keysIssued(ctx, issued)
}

// deploy brings holders' new versions onto their bindings, in place of whatever
// is on its way there.
func (t *tx) deploy(ctx context.Context, holders, versions []certctl.ID) error {
	rows, err := t.Query(ctx, `
		select b.id, b.certificate_id, b.target_id, target.agent_id, new.version
		from unnest($1::uuid[], $2::uuid[]) as new(holder, version) join binding b on b.holder_id = new.holder
		join target on target.id = b.target_id
		where b.unbound_at is null order by b.id`, holders, versions)
	if err != nil {
		return err
	}
	specs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s deploymentSpec, err error) {
		return s, row.Scan(&s.binding, &s.certificate, &s.target, &s.agent, &s.version)
	})
	if err != nil || len(specs) == 0 {
		return err
	}
	bindings := make([]certctl.ID, len(specs))
	for i, s := range specs {
		bindings[i] = s.binding
	}
	if err := t.endDeployments(ctx, bindings...); err != nil {
		return err
	}
	made, err := t.insertDeployments(ctx, specs)
	if err != nil {
		return err
	}
	held, err := t.heldDeployments(ctx, made.ids)
	if err != nil {
		return err
	}
	if held, err = t.wavedDeployments(ctx, made.ids, held); err != nil {
		return err
	}
	return t.release(ctx, made, held)
}

// closeFailed lets orders wait for their next try, or ends them.
func (t *tx) closeFailed(ctx context.Context, failures []*finishing) error {
	n := len(failures)
	if n == 0 {
		return nil
	}
	ids, states, waits, codes, messages := make([]certctl.ID, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	var again []dueRow
	var refused, reconsidered []certctl.ID
	for i, f := range failures {
		ids[i], states[i], waits[i] = f.order.ID, string(certctl.OrderReady), string(certctl.WaitBackoff)
		codes[i], messages[i] = certctl.Clip(f.end.Err.Code, 100), certctl.Clip(f.end.Err.Message, 1000)
		name, data := certctl.EventOrderDelayed, map[string]any{
			"certificate": f.order.Certificate, "name": f.name, "order": f.order.ID, "holder": f.order.Holder,
			"issuer": f.order.Issuer, "attempt": f.end.N, "code": codes[i],
		}
		if f.end.Refuse {
			name, states[i], waits[i] = certctl.EventOrderRefused, string(certctl.OrderRefused), ""
			refused, reconsidered = append(refused, f.order.ID), append(reconsidered, f.order.Holder)
		} else {
			at := maxTime(f.end.RetryAt, t.now.Add(time.Second))
			data["retry_at"] = at
			again = append(again, dueRow{kind: dueOrder, id: f.order.ID, verb: certctl.HintIssue, lane: f.order.Issuer.String(),
				urgency: f.order.Urgency, at: at})
		}
		t.eventOutcome(f.team, certctl.AggregateCertificate, f.order.Certificate, name, certctl.OutcomeFailure, data)
	}
	if err := t.endAttempts(ctx, failures, certctl.AttemptFailed); err != nil {
		return err
	}
	if err := t.put(ctx, `
		update cert_order o set state = new.state, wait = new.wait, error_code = new.code, message = new.message, lost_leases = 0,
			updated_at = now(), closed_at = case when new.state = 'refused' then now() end
		from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) as new(id, state, wait, code, message)
		where o.id = new.id`, ids, states, waits, codes, messages); err != nil {
		return err
	}
	if err := t.abandonExternal(ctx, failures); err != nil {
		return err
	}
	if err := t.done(ctx, dueOrder, refused...); err != nil {
		return err
	}
	if err := t.reconsider(ctx, reconsidered...); err != nil {
		return err
	}
	if err := t.forgetKeys(ctx, reconsidered...); err != nil {
		return err
	}
	return t.due(ctx, again...)
}

// endAttempts records how attempts ended, and gives their slots back.
func (t *tx) endAttempts(ctx context.Context, all []*finishing, outcome certctl.AttemptOutcome) error {
	n := len(all)
	ids, numbers, codes, messages := make([]certctl.ID, n), make([]int32, n), make([]string, n), make([]string, n)
	kinds, again := make([]string, n), make([]time.Time, n)
	for i, f := range all {
		ids[i], numbers[i] = f.order.ID, int32(f.end.N) //nolint:gosec // a counter
		if f.end.Err != nil {
			codes[i], messages[i] = certctl.Clip(f.end.Err.Code, 100), certctl.Clip(f.end.Err.Message, 1000)
			kinds[i] = string(f.end.Err.Kind)
			if !f.end.Refuse {
				again[i] = maxTime(f.end.RetryAt, t.now.Add(time.Second))
			}
		}
	}
	if err := t.put(ctx, `
		update attempt a set outcome = $5, error_code = new.code, message = new.message, failure = new.kind, retry_at = new.again, finished_at = now()
		from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $6::text[], $7::timestamptz[]) as new(id, n, code, message, kind, again)
		where a.order_id = new.id and a.n = new.n`, ids, numbers, codes, messages, string(outcome), kinds, again); err != nil {
		return err
	}
	err := t.put(ctx, `delete from issuer_slot where order_id = any($1)`, ids)
	return err
}
