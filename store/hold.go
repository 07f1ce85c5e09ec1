package store

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// heldUntil is how long something is held back, and why.
type heldUntil struct {
	at   time.Time
	wait certctl.WaitReason
}

// holdRecheck is when something is looked at again that is held without an end.
const holdRecheck = certctl.Day

// heldDeployments returns those of the deployments that must wait for a window
// or the end of a freeze: those of ordinary renewals, where the version before
// is still there to be served.
func (t *tx) heldDeployments(ctx context.Context, ids []certctl.ID) (map[certctl.ID]heldUntil, error) {
	var holding bool
	if err := t.QueryRow(ctx, `
		select exists (select from change_freeze where ended_at is null and (ends_at is null or ends_at > now()))
			or exists (select from renewal_policy where body ? 'deploy_windows')`).Scan(&holding); err != nil || !holding || len(ids) == 0 {
		return nil, err
	}
	freezes, err := t.freezes(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := t.Query(ctx, `
		select d.id, c.labels, c.policy_id, old.not_before, old.not_after
		from deployment d join certificate c on c.id = d.certificate_id join version v on v.id = d.version_id
		join cert_order o on o.id = v.order_id join version old on old.id = v.replaces
		where d.id = any($1) and o.origin in ('sweep', 'bulk') and old.revoked_at is null`, ids)
	if err != nil {
		return nil, err
	}
	type replacement struct {
		id, policy          certctl.ID
		labels              map[string]string
		notBefore, notAfter time.Time
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r replacement, err error) {
		return r, row.Scan(&r.id, &r.labels, &r.policy, &r.notBefore, &r.notAfter)
	})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	wanted := map[certctl.ID]bool{}
	for _, r := range all {
		wanted[r.policy] = true
	}
	policies, err := t.policiesByID(ctx, keysOf(wanted))
	held := map[certctl.ID]heldUntil{}
	for _, r := range all {
		holds := certctl.Holds{Windows: policies[r.policy].DeployWindows, Freezes: freezes, Labels: r.labels}
		at, wait := holds.Release(t.now, certctl.HoldDeadline(r.notBefore, r.notAfter))
		if wait != certctl.WaitNone {
			held[r.id] = heldUntil{minTime(at, t.now.Add(holdRecheck)), wait}
		}
	}
	return held, err
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// holdBack lets deployments wait.
func (t *tx) holdBack(ctx context.Context, held map[certctl.ID]heldUntil) error {
	n := len(held)
	if n == 0 {
		return nil
	}
	ids, waits, times := make([]certctl.ID, 0, n), make([]string, 0, n), make([]time.Time, 0, n)
	for _, id := range sortedIDs(held) {
		ids, waits, times = append(ids, id), append(waits, string(held[id].wait)), append(times, held[id].at)
	}
	if err := t.put(ctx, `
		update deployment d set wait = new.wait, updated_at = now() from unnest($1::uuid[], $2::text[]) as new(id, wait)
		where d.id = new.id and d.wait is distinct from new.wait`, ids, waits); err != nil {
		return err
	}
	err := t.put(ctx, `
		update due set due_at = new.at from unnest($1::uuid[], $2::timestamptz[]) as new(id, at)
		where due.kind = 'deployment' and due.id = new.id`, ids, times)
	return err
}

// PauseCertificate stops all work on a certificate, or has it go on: no order is
// tried, nothing is installed and nothing renewed meanwhile. Monitoring and
// revocation go on.
func (s *Store) PauseCertificate(ctx context.Context, actor certctl.Actor, ref string, pause bool) (certctl.Certificate, error) {
	var certificate certctl.Certificate
	err := s.write(ctx, actor, func(t *tx) error {
		h, err := t.hold(ctx, certctl.VerbUpdate, ref)
		if err != nil {
			return err
		}
		tag, err := t.Exec(ctx, `update certificate set paused = $2, updated_at = now() where id = $1 and paused <> $2`, h.id, pause)
		if err != nil {
			return err
		}
		if tag.RowsAffected() > 0 {
			name := certctl.EventCertificatePaused
			if !pause {
				name = certctl.EventCertificateResumed
			}
			t.event(h.team, certctl.AggregateCertificate, h.id, name, map[string]any{"certificate": h.id, "name": h.name})
			if err := t.lookAgain(ctx, h); err != nil {
				return err
			}
			if err := t.refreshStatus(ctx, h.id); err != nil {
				return err
			}
		}
		certificate, err = t.certificate(ctx, h.id)
		return err
	})
	return certificate, err
}

// lookAgain has everything of a certificate looked at now that waits for its
// time: its holders, and its orders and deployments.
func (t *tx) lookAgain(ctx context.Context, h *held) error {
	var holders []dueRow
	for _, holder := range h.holders {
		holders = append(holders, dueRow{kind: dueHolder, id: holder.id, verb: certctl.HintRenew, at: t.now, urgency: certctl.UrgencyNow})
		t.hint(certctl.HintRenew, certctl.NoLane, holder.id)
	}
	if err := t.due(ctx, holders...); err != nil {
		return err
	}
	err := t.put(ctx, `
		update due set due_at = now() where due_at > now() and (
			kind = 'order' and id in (select id from cert_order where certificate_id = $1 and live) or
			kind = 'deployment' and id in (select id from deployment where certificate_id = $1 and state in ('pending', 'installing', 'rolled_back', 'failed')))`,
		h.id)
	return err
}

// refusePaused refuses work by hand on a paused certificate.
func (h *held) refusePaused() error {
	if !h.paused {
		return nil
	}
	return certctl.Errorf(certctl.Conflict, "%s is paused", h.name).WithRemedy("resume it first")
}

// stillHeld takes those deployments out of what was claimed that something holds
// back again: a freeze that began, a window that was moved, a wave that is not
// served yet.
func (t *tx) stillHeld(ctx context.Context, all []claimed) ([]claimed, error) {
	var ids []certctl.ID
	for _, c := range all {
		if c.kind == dueDeployment {
			ids = append(ids, c.id)
		}
	}
	if len(ids) == 0 {
		return all, nil
	}
	if err := t.QueryRow(ctx, `select array(select id from deployment where id = any($1) and wait = any($2))`,
		ids, []string{string(certctl.WaitWindow), string(certctl.WaitFreeze), string(certctl.WaitWave)}).Scan(&ids); err != nil || len(ids) == 0 {
		return all, err
	}
	held, err := t.heldDeployments(ctx, ids)
	if err != nil {
		return nil, err
	}
	if held, err = t.claimedWaves(ctx, ids, held); err != nil {
		return nil, err
	}
	free := slices.DeleteFunc(all, func(c claimed) bool {
		_, waits := held[c.id]
		return c.kind == dueDeployment && waits
	})
	return free, t.holdBack(ctx, held)
}
