package store

import (
	"context"
	"slices"
	"time"

	"github.com/certctl/certctl"
)

// slotAgain is when an order that found no free slot at its issuer is tried again.
const slotAgain = 5 * time.Second

// gate is what an issuer lets through, read under its lock.
type gate struct {
	issuer      certctl.ID
	concurrency int
	rate        certctl.Rate
	health      certctl.Health
	outages     int
	probeAt     time.Time
	taken       int // live slots
}

// takeSlots keeps those of the orders that their issuer lets through, and lets
// the others wait, or go to another issuer.
func (t *tx) takeSlots(ctx context.Context, all []*starting, until time.Time) ([]*starting, error) {
	var mine []*starting
	limited := map[certctl.ID][]*starting{}
	for _, s := range all {
		if !s.limited {
			mine = append(mine, s)
			continue
		}
		limited[s.start.Issuer] = append(limited[s.start.Issuer], s)
	}
	for _, issuer := range sortedIDs(limited) {
		got, err := t.slotsOf(ctx, issuer, limited[issuer], until)
		if err != nil {
			return nil, err
		}
		mine = append(mine, got...)
	}
	return mine, nil
}

// slotsOf is takeSlots for one issuer. Counting and taking are one step for all
// replicas, by a lock.
func (t *tx) slotsOf(ctx context.Context, issuer certctl.ID, wanting []*starting, until time.Time) ([]*starting, error) {
	g, err := t.lockGate(ctx, issuer)
	if err != nil {
		return nil, err
	}
	if g.health == certctl.HealthDown {
		if wanting, err = t.failOver(ctx, issuer, wanting); err != nil {
			return nil, err
		}
	}
	wanting, going := goingFirst(wanting)
	free, wait, at := len(wanting), certctl.WaitNone, t.now
	shut := func(room int, reason certctl.WaitReason, again time.Time) {
		if room < free {
			free, wait, at = max(room, 0), reason, again
		}
	}
	if g.concurrency > 0 {
		shut(g.concurrency-g.taken, certctl.WaitSlot, t.now.Add(slotAgain))
	}
	if g.rate.Count > 0 {
		room, again, err := t.rateRoom(ctx, g)
		if err != nil {
			return nil, err
		}
		shut(going+room, certctl.WaitBudget, again)
	}
	if g.health == certctl.HealthDown {
		probes := 0
		if g.taken == 0 && !g.probeAt.After(t.now) {
			probes = 1
		}
		shut(probes, certctl.WaitIssuerDown, maxTime(g.probeAt, t.now.Add(slotAgain)))
	}
	if err := t.use(ctx, g, wanting[:free], going, until); err != nil {
		return nil, err
	}
	return wanting[:free], t.shutOut(ctx, wanting[free:], wait, at)
}

func (t *tx) lockGate(ctx context.Context, issuer certctl.ID) (g gate, err error) {
	if err := t.put(ctx, `select pg_advisory_xact_lock($1)`, lockKey("slots/"+issuer.String())); err != nil {
		return g, err
	}
	g.issuer = issuer
	err = t.QueryRow(ctx, `
		with gone as (delete from issuer_slot where issuer_id = $1 and until < now())
		select concurrency, rate_count, rate_period, health, outages, probe_at,
			(select count(*) from issuer_slot where issuer_id = $1 and until >= now())
		from issuer where id = $1`, issuer).
		Scan(&g.concurrency, &g.rate.Count, (*int64)(&g.rate.Per), &g.health, &g.outages, &g.probeAt, &g.taken)
	return g, err
}

// rateRoom returns how many more attempts the issuer's rate allows now, and when
// the next one is allowed.
func (t *tx) rateRoom(ctx context.Context, g gate) (room int, again time.Time, err error) {
	since := t.now.Add(-time.Duration(g.rate.Per))
	var used int
	var oldest time.Time
	err = t.QueryRow(ctx, `
		with gone as (delete from issuer_use where issuer_id = $1 and at <= $2)
		select count(*), min(at) from issuer_use where issuer_id = $1 and at > $2`, g.issuer, since).Scan(&used, &oldest)
	return g.rate.Count - used, maxTime(oldest.Add(time.Duration(g.rate.Per)), t.now.Add(time.Second)), err
}

// goingFirst puts the orders first whose attempts go on, and returns how many
// they are: they take a slot while somebody works on them, but have spent the
// issuer's rate already.
func goingFirst(all []*starting) (sorted []*starting, going int) {
	sorted = slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b *starting) int {
		switch {
		case a.going == b.going:
			return 0
		case a.going:
			return -1
		}
		return 1
	})
	for _, s := range sorted {
		if s.going {
			going++
		}
	}
	return sorted, going
}

// use takes slots, spends the rate for all but the first few, which go on, and,
// of an issuer that is down, the probe.
func (t *tx) use(ctx context.Context, g gate, through []*starting, going int, until time.Time) error {
	if len(through) == 0 {
		return nil
	}
	ids := make([]certctl.ID, len(through))
	for i, s := range through {
		ids[i] = s.start.Order
	}
	if err := t.put(ctx, `
		insert into issuer_slot (issuer_id, order_id, until) select $1, unnest($2::uuid[]), $3
		on conflict (issuer_id, order_id) do update set until = excluded.until`, g.issuer, ids, until); err != nil {
		return err
	}
	if g.rate.Count > 0 && going < len(ids) {
		if err := t.put(ctx, `
			insert into issuer_use (issuer_id, at, order_id) select $1, now(), unnest($2::uuid[]) on conflict do nothing`, g.issuer, ids[going:]); err != nil {
			return err
		}
	}
	if g.health != certctl.HealthDown {
		return nil
	}
	err := t.put(ctx, `update issuer set probe_at = $2 where id = $1`, g.issuer, t.now.Add(certctl.BreakerPause(g.outages)))
	return err
}

// shutOut lets orders wait until a time.
func (t *tx) shutOut(ctx context.Context, out []*starting, wait certctl.WaitReason, at time.Time) error {
	if len(out) == 0 {
		return nil
	}
	ids := make([]certctl.ID, len(out))
	for i, s := range out {
		ids[i] = s.start.Order
	}
	if err := t.put(ctx, `update cert_order set wait = $2, updated_at = now() where id = any($1) and state = any('{ready,processing}')`,
		ids, string(wait)); err != nil {
		return err
	}
	err := t.put(ctx, `update due set due_at = $2 where kind = 'order' and id = any($1)`, ids, at)
	return err
}
