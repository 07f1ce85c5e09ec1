package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
)

// guardAgain is when a holder that the guard holds is looked at again, should the
// guard have ceased to hold without a word.
const guardAgain = 15 * time.Minute

// behindGuard says of a holder (h, with its version v and certificate c) that it
// is due for a change which nobody has let go.
const behindGuard = `(greatest(v.revision, h.kept_revision) < c.revision
	and not exists (select from guard_pass p where p.holder_id = h.id and p.revision >= c.revision))`

// fleetKeys are all keys that are renewed here.
const fleetKeys = `holder h join version v on v.id = h.version_id join certificate c on c.id = h.certificate_id
	where h.ended_at is null and c.archived_at is null and c.purpose = 'user' and c.issuers <> '{}'`

// guardedUntil is when a holder is looked at again.
func guardedUntil(d certctl.Decision, now time.Time) time.Time {
	if d.Wait == certctl.WaitGuard {
		return minTime(d.At, now.Add(guardAgain))
	}
	return d.At
}

// guardHolders has the guard count, if any of the holders is due for a change,
// and notes with them whether it holds.
func (t *tx) guardHolders(ctx context.Context, holders []sweptHolder) error {
	behind := false
	for _, h := range holders {
		behind = behind || h.behind
	}
	if !behind {
		return nil
	}
	holds, err := t.guardHolds(ctx)
	for i := range holders {
		holders[i].facts.Guarded = holds && holders[i].behind
	}
	return err
}

// guardChange returns which holders of a changed certificate the guard holds, and
// when they are looked at again is recorded.
func (t *tx) guardChange(ctx context.Context, h *held) (map[certctl.ID]bool, error) {
	ids := make([]certctl.ID, len(h.holders))
	for i, holder := range h.holders {
		ids[i] = holder.id
	}
	swept, err := t.sweptHolders(ctx, ids)
	if err != nil {
		return nil, err
	}
	if err := t.guardHolders(ctx, swept); err != nil {
		return nil, err
	}
	waiting := map[certctl.ID]bool{}
	var later []dueRow
	for _, s := range swept {
		s.facts.Holds = certctl.Holds{} // a freeze does not hold what a person changes
		if d := certctl.HolderDue(s.facts, t.now); d.Wait == certctl.WaitGuard {
			waiting[s.id] = true
			later = append(later, holderDue(s.id, guardedUntil(d, t.now), s.facts.NotAfter, t.now))
		}
	}
	return waiting, t.due(ctx, later...)
}

// guardHolds reports whether the guard holds, by a count that is fresh: a fleet of a
// thousand keys is counted each time, a large one every few seconds.
func (t *tx) guardHolds(ctx context.Context) (bool, error) {
	const stale = `(counted_at is null or counted_at < clock_timestamp() - least(greatest(fleet - 1000, 0), 100000) * interval '100 microseconds')`
	var counted bool
	var g certctl.Guard
	if err := t.QueryRow(ctx, `select not `+stale+`, held_at from guard`).Scan(&counted, &g.HeldAt); err != nil || counted {
		return !g.HeldAt.IsZero(), err
	}
	if err := t.QueryRow(ctx, `select not `+stale+`, id, share, least, held_at from guard for update`).
		Scan(&counted, &g.ID, &g.Share, &g.Least, &g.HeldAt); err != nil || counted {
		return !g.HeldAt.IsZero(), err
	}
	if err := t.countGuard(ctx, &g); err != nil {
		return false, err
	}
	held := !g.HeldAt.IsZero()
	switch {
	case g.Holds() && !held:
		g.HeldAt = t.now
		t.guardEvent(g, certctl.EventGuardHeld, g.Changed)
	case !g.Holds() && held:
		g.HeldAt = time.Time{}
		t.guardEvent(g, certctl.EventGuardEased, 0)
	}
	err := t.put(ctx, `update guard set fleet = $1, changed = $2, held_at = $3, counted_at = now()`, g.Fleet, g.Changed, g.HeldAt)
	return g.Holds(), err
}

// countGuard counts the fleet, and what is due for a change or was re-issued for
// one within the last hour. What a rollout orders has its own brakes.
func (t *tx) countGuard(ctx context.Context, g *certctl.Guard) error {
	return t.QueryRow(ctx, `
		select fleet.keys, fleet.behind + recent.n
		from (select count(*) as keys, count(*) filter (where `+behindGuard+`) as behind from `+fleetKeys+`) fleet,
			(select count(*) as n from version v join version old on old.id = v.replaces join cert_order o on o.id = v.order_id
			where v.id >= uuid7_floor(now() - interval '1 hour') and v.revision > old.revision and o.origin <> 'bulk'
				and not exists (select from guard_pass p where p.holder_id = v.holder_id and p.revision >= v.revision)) recent`).
		Scan(&g.Fleet, &g.Changed)
}

func (t *tx) guardEvent(g certctl.Guard, name certctl.EventName, keys int) {
	t.event(certctl.DefaultTeam, certctl.AggregateSystem, g.ID, name, map[string]any{
		"keys": keys, "fleet": g.Fleet, "share": g.Share, "release": "certctl guard release",
	})
}

// GetGuard returns the guard with the number of keys that it holds now.
func (s *Store) GetGuard(ctx context.Context, actor certctl.Actor) (certctl.Guard, error) {
	var guard certctl.Guard
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectCertificate); err != nil {
			return err
		}
		var err error
		guard, err = t.guard(ctx)
		return err
	})
	return guard, err
}

func (t *tx) guard(ctx context.Context) (g certctl.Guard, err error) {
	if err = t.QueryRow(ctx, `select id, share, least, fleet, changed, held_at from guard`).
		Scan(&g.ID, &g.Share, &g.Least, &g.Fleet, &g.Changed, &g.HeldAt); err != nil || g.HeldAt.IsZero() {
		return g, err
	}
	err = t.QueryRow(ctx, `select count(*) from `+fleetKeys+` and `+behindGuard).Scan(&g.Waiting)
	return g, err
}

// SetGuard sets the guard's limits, for all replicas; zero leaves what is stored.
func (s *Store) SetGuard(ctx context.Context, share float64, least int) error {
	if share == 0 && least == 0 {
		return nil
	}
	return s.write(ctx, certctl.SystemActor("bootstrap"), func(t *tx) error {
		var g certctl.Guard
		if err := t.QueryRow(ctx, `select coalesce(nullif($1::float8, 0), share), coalesce(nullif($2::int, 0), least) from guard for update`, share, least).
			Scan(&g.Share, &g.Least); err != nil {
			return err
		}
		if err := g.Validate(); err != nil {
			return err
		}
		err := t.put(ctx, `update guard set share = $1, least = $2, counted_at = null where (share, least) is distinct from ($1, $2)`, g.Share, g.Least)
		return err
	})
}

// ReleaseGuard lets everything go that the guard holds, or would: every key that
// is due for a change as the certificates are now. It returns how many there are.
// What changes afterwards is guarded again.
func (s *Store) ReleaseGuard(ctx context.Context, actor certctl.Actor) (int, error) {
	released := 0
	err := s.write(ctx, actor, func(t *tx) error {
		if t.actor.Principal.Team != "" {
			return certctl.Errorf(certctl.Denied, "the guard holds certificates of every team: %s belongs to one", t.actor.Principal.Name).
				WithRemedy("roll your certificates out with certctl rollouts, or ask somebody of no team")
		}
		if err := t.may(certctl.VerbIssue, certctl.ObjectCertificate, found{}); err != nil {
			return err
		}
		var g certctl.Guard
		if err := t.QueryRow(ctx, `select id, share, fleet from guard for update`).Scan(&g.ID, &g.Share, &g.Fleet); err != nil {
			return err
		}
		if err := t.put(ctx, `
			delete from guard_pass p using holder h join version v on v.id = h.version_id
			where h.id = p.holder_id and v.revision >= p.revision and v.id < uuid7_floor(now() - interval '1 hour')`); err != nil {
			return err
		}
		if err := t.QueryRow(ctx, `
			with passed as (
				insert into guard_pass (holder_id, revision) select h.id, c.revision from `+fleetKeys+` and `+behindGuard+`
				on conflict (holder_id) do update set revision = excluded.revision returning holder_id),
			woken as (update due set due_at = now() from passed where due.kind = 'holder' and due.id = passed.holder_id and due.due_at > now()),
			eased as (update guard set held_at = null, counted_at = null)
			select count(*) from passed`).Scan(&released); err != nil {
			return err
		}
		t.guardEvent(g, certctl.EventGuardReleased, released)
		return nil
	})
	return released, err
}
