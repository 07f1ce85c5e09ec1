package store

import (
	"context"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// judgeIssuers learns from how attempts ended how their issuers are doing.
func (t *tx) judgeIssuers(ctx context.Context, all []*finishing) error {
	answered, outages := map[certctl.ID]bool{}, map[certctl.ID]*finishing{}
	count := map[certctl.ID]int{}
	for _, f := range all {
		issuer := f.order.Issuer
		switch {
		case !f.current:
		case f.end.Err != nil && f.end.Err.Outage:
			outages[issuer] = f
			count[issuer]++
		case f.end.Paused() && f.end.Err == nil && f.end.Pause != certctl.WaitCA: // it was not asked
		default:
			answered[issuer] = true
		}
	}
	if err := t.issuersAnswered(ctx, keysOf(answered)); err != nil {
		return err
	}
	for _, issuer := range sortedIDs(outages) {
		if answered[issuer] {
			continue
		}
		if err := t.issuerFailed(ctx, issuer, count[issuer], outages[issuer].end.Err.Message); err != nil {
			return err
		}
	}
	return nil
}

// issuersAnswered closes the breakers of issuers, and has what waited for them
// looked at. An issuer that was healthy costs one read.
func (t *tx) issuersAnswered(ctx context.Context, issuers []certctl.ID) error {
	var unwell []certctl.ID
	if err := t.QueryRow(ctx, `
		select array(select id from issuer where id = any($1) and (health <> 'healthy' or outages > 0) order by id)`,
		issuers).Scan(&unwell); err != nil || len(unwell) == 0 {
		return err
	}
	rows, err := t.Query(ctx, `
		with before as (select id, health from issuer where id = any($1) order by id for no key update)
		update issuer i set health = 'healthy', health_reason = '', outages = 0, down_since = null, probe_at = null, updated_at = now()
		from before, team where before.id = i.id and team.id = i.team_id and (i.health <> 'healthy' or i.outages > 0)
		returning i.id, i.name, team.name, before.health`, unwell)
	if err != nil {
		return err
	}
	var id certctl.ID
	var name, team string
	var before certctl.Health
	var up []certctl.ID
	if _, err := pgx.ForEachRow(rows, []any{&id, &name, &team, &before}, func() error {
		if before == certctl.HealthDown {
			up = append(up, id)
			t.event(team, certctl.AggregateIssuer, id, certctl.EventIssuerUp, map[string]any{"name": name})
		}
		return nil
	}); err != nil {
		return err
	}
	for _, issuer := range up {
		if err := t.askAgain(ctx, issuer); err != nil {
			return err
		}
	}
	return nil
}

// issuerFailed counts outages, and opens the breaker when there were too many in
// a row.
func (t *tx) issuerFailed(ctx context.Context, issuer certctl.ID, n int, reason string) error {
	var name, team string
	var outages int
	var before certctl.Health
	err := t.QueryRow(ctx, `
		select i.name, team.name, i.outages, i.health from issuer i join team on team.id = i.team_id where i.id = $1 for no key update of i`, issuer).
		Scan(&name, &team, &outages, &before)
	if err != nil {
		return err
	}
	outages += n
	health := certctl.HealthDegraded
	if before == certctl.HealthDown || outages >= certctl.OutagesToOpen {
		health = certctl.HealthDown
	}
	if err := t.put(ctx, `
		update issuer set outages = $2, health = $3, health_reason = $4, updated_at = now(),
			down_since = case when $3 = 'down' then coalesce(down_since, now()) end,
			probe_at = case when $3 = 'down' then $5::timestamptz end
		where id = $1`, issuer, outages, string(health), certctl.Clip(reason, 500), t.now.Add(certctl.BreakerPause(outages))); err != nil {
		return err
	}
	if health == certctl.HealthDown && before != certctl.HealthDown {
		t.eventOutcome(team, certctl.AggregateIssuer, issuer, certctl.EventIssuerDown, certctl.OutcomeFailure, map[string]any{"name": name, "outages": outages})
	}
	return nil
}

// failOver moves those of the orders to their certificate's next issuer whose
// policy has no patience left, and returns the others.
func (t *tx) failOver(ctx context.Context, issuer certctl.ID, wanting []*starting) ([]*starting, error) {
	ids := make([]certctl.ID, len(wanting))
	for i, s := range wanting {
		ids[i] = s.start.Order
	}
	rows, err := t.Query(ctx, `
		select o.id, o.certificate_id, c.name, team.name, o.holder_id, o.urgency, c.issuers, c.policy_id, i.trust, i.down_since, v.not_before, v.not_after
		from cert_order o join certificate c on c.id = o.certificate_id join team on team.id = c.team_id join issuer i on i.id = o.issuer_id
		join holder h on h.id = o.holder_id left join version v on v.id = h.version_id
		where o.id = any($1) and cardinality(c.issuers) > 1 and i.down_since is not null`, ids)
	if err != nil {
		return nil, err
	}
	candidates, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s switching, err error) {
		return s, row.Scan(&s.order, &s.certificate, &s.name, &s.team, &s.holder, &s.urgency, &s.issuers, &s.policy,
			&s.facts.Trust, &s.facts.DownSince, &s.facts.NotBefore, &s.facts.NotAfter)
	})
	if err != nil || len(candidates) == 0 {
		return wanting, err
	}
	moved, err := t.switchIssuers(ctx, issuer, candidates)
	return slices.DeleteFunc(slices.Clone(wanting), func(s *starting) bool { return moved[s.start.Order] }), err
}

// switching is an order that may go to another issuer.
type switching struct {
	order, certificate, holder, policy certctl.ID
	name, team                         string
	urgency                            certctl.Urgency
	issuers                            []certctl.ID
	facts                              certctl.FailoverFacts
}

func (t *tx) switchIssuers(ctx context.Context, from certctl.ID, all []switching) (map[certctl.ID]bool, error) {
	others, policies := map[certctl.ID]bool{}, map[certctl.ID]bool{}
	for _, s := range all {
		policies[s.policy] = true
		for _, id := range s.issuers {
			others[id] = true
		}
	}
	issuers, err := t.issuers(ctx, keysOf(others))
	if err != nil {
		return nil, err
	}
	times, err := t.policiesByID(ctx, keysOf(policies))
	if err != nil {
		return nil, err
	}
	moved := map[certctl.ID]bool{}
	for _, s := range all {
		s.facts.After = times[s.policy].FailoverAfter
		for _, id := range s.issuers {
			i := slices.IndexFunc(issuers, func(i certctl.Issuer) bool { return i.ID == id })
			if id != from && i >= 0 {
				s.facts.Next = append(s.facts.Next, certctl.FailoverCandidate{
					ID: id, Trust: issuers[i].Trust, Health: issuers[i].Health, Paused: issuers[i].Paused,
				})
			}
		}
		to, ok := certctl.Failover(s.facts, t.now)
		if !ok {
			continue
		}
		moved[s.order] = true
		if err := t.switchOrder(ctx, s, from, to); err != nil {
			return nil, err
		}
	}
	return moved, nil
}

// switchOrder gives an order to another issuer. An attempt at the former one
// that nobody answers for any more is abandoned; a leaf that still comes of it is
// kept as an orphan.
func (t *tx) switchOrder(ctx context.Context, s switching, from, to certctl.ID) error {
	if err := t.put(ctx, `
		update attempt set outcome = 'abandoned', message = 'another issuer took over', finished_at = now()
		where order_id = $1 and outcome = ''`, s.order); err != nil {
		return err
	}
	if err := t.abandon(ctx, s.order); err != nil {
		return err
	}
	if err := t.put(ctx, `
		update cert_order set issuer_id = $2, state = 'ready', wait = '', updated_at = now() where id = $1`, s.order, to); err != nil {
		return err
	}
	t.event(s.team, certctl.AggregateCertificate, s.certificate, certctl.EventOrderSwitched, map[string]any{
		"certificate": s.certificate, "name": s.name, "order": s.order, "holder": s.holder, "from": from, "to": to, "down_since": s.facts.DownSince,
	})
	t.hint(certctl.HintIssue, to.String(), s.order)
	return t.due(ctx, dueRow{kind: dueOrder, id: s.order, verb: certctl.HintIssue, lane: to.String(), urgency: s.urgency, at: t.now.Add(agentReminder)})
}
