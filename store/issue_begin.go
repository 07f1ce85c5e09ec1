package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// starting is an order about to be asked for, as it stands now.
type starting struct {
	start       certctl.AttemptStart
	certificate certctl.ID
	state       certctl.OrderState
	wait        certctl.WaitReason
	revision    int64
	attempts    int
	lostLeases  int
	limited     bool // by a concurrency, a rate, or because the issuer is down
	paused      bool
	going       bool            // its last attempt was paused and goes on
	last        certctl.Attempt // the newest attempt; N = 0 without one
}

// may reports whether the order is still as the worker has read it.
func (s *starting) may(now time.Time) bool {
	if s.paused || s.revision != s.start.Revision {
		return false
	}
	if s.wait != certctl.WaitNone {
		return false
	}
	if s.state == certctl.OrderProcessing {
		return s.last.Outcome == certctl.AttemptRunning && (s.going || s.last.LeaseUntil.Before(now))
	}
	return s.state == certctl.OrderReady
}

// BeginIssue records what workers are about to ask, before they ask it, and
// returns the attempts that are theirs: those of orders that are still as they
// were read, and whose issuer has a free slot (Issuer.Concurrency, over all
// replicas). The others are somebody else's, or wait; nothing is returned for
// them. An attempt in place of one whose lease has run out has its external URL
// and state; the old one is abandoned. One that was paused goes on as it is.
//
// An order that has lost certctl.MaxLostLeases workers in a row is not asked for
// again: whatever kills them, it waits for a person, with a dead letter.
func (s *Store) BeginIssue(ctx context.Context, worker string, lease time.Duration, starts []certctl.AttemptStart) ([]certctl.Attempt, error) {
	var begun []certctl.Attempt
	var poison []certctl.ID
	err := s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		begun, poison = nil, nil
		open, err := t.startings(ctx, starts)
		if err != nil {
			return err
		}
		var mine []*starting
		for _, s := range open {
			switch {
			case !s.may(t.now):
			case s.state == certctl.OrderProcessing && !s.going && s.lostLeases+1 >= certctl.MaxLostLeases:
				poison = append(poison, s.start.Order)
			default:
				mine = append(mine, s)
			}
		}
		mine, err = t.takeSlots(ctx, mine, t.now.Add(lease))
		if err != nil || len(mine) == 0 {
			return err
		}
		begun, err = t.beginOrGoOn(ctx, mine, worker, t.now.Add(lease))
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, order := range poison {
		if err := s.parkLost(ctx, order); err != nil {
			return nil, err
		}
	}
	return begun, nil
}

// startings locks and reads the orders of starts.
func (t *tx) startings(ctx context.Context, starts []certctl.AttemptStart) ([]*starting, error) {
	byOrder, ids := make(map[certctl.ID]certctl.AttemptStart, len(starts)), make([]certctl.ID, len(starts))
	for i, start := range starts {
		byOrder[start.Order], ids[i] = start, start.Order
	}
	if err := t.lockOrders(ctx, ids); err != nil {
		return nil, err
	}
	rows, err := t.Query(ctx, `
		select o.id, o.certificate_id, o.state, o.wait, o.revision, o.attempts, o.lost_leases,
			i.concurrency > 0 or i.rate_count > 0 or i.health = 'down', i.paused or c.paused,
			coalesce(a.paused and a.outcome = '', false), coalesce(a.n, 0), coalesce(a.outcome, ''), a.lease_until, coalesce(a.external_url, ''), a.state
		from cert_order o join issuer i on i.id = o.issuer_id join certificate c on c.id = o.certificate_id
		left join attempt a on a.order_id = o.id and a.n = o.attempts
		where o.id = any($1) order by o.id`, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*starting, error) {
		s := &starting{}
		var id certctl.ID
		err := row.Scan(&id, &s.certificate, &s.state, &s.wait, &s.revision, &s.attempts, &s.lostLeases, &s.limited, &s.paused,
			&s.going, &s.last.N, &s.last.Outcome, &s.last.LeaseUntil, &s.last.ExternalURL, &s.last.State)
		s.start = byOrder[id]
		return s, err
	})
}

// lockOrders locks orders by id. It is a statement of its own: one that locked
// and joined at once would see the locked rows as they are and the joined ones as
// they were before it waited.
func (t *tx) lockOrders(ctx context.Context, ids []certctl.ID) error {
	err := t.put(ctx, `select from cert_order where id = any($1) order by id for no key update`, ids)
	return err
}

// begin writes the attempts, and the orders as being processed until the lease
// runs out.
func (t *tx) begin(ctx context.Context, mine []*starting, worker string, until time.Time) ([]certctl.Attempt, error) {
	n := len(mine)
	begun := make([]certctl.Attempt, n)
	orders, issuers, authorities := make([]certctl.ID, n), make([]certctl.ID, n), make([]certctl.ID, n)
	numbers, serials, digests := make([]int32, n), make([]string, n), make([][]byte, n)
	urls, states, started, rows := make([]string, n), make([][]byte, n), make([]time.Time, n), make([]dueRow, n)
	var lost []certctl.ID // whose attempt before this one ran out of its lease
	var before []int32
	for i, s := range mine {
		a := certctl.Attempt{
			Order: s.start.Order, N: s.attempts + 1, Issuer: s.start.Issuer, Authority: s.start.Authority, Worker: worker,
			Serial: s.start.Serial, TBSDigest: s.start.TBSDigest, LeaseUntil: until, StartedAt: s.start.StartedAt,
		}
		if s.state == certctl.OrderProcessing {
			a.ExternalURL, a.State = s.last.ExternalURL, s.last.State
			lost, before = append(lost, a.Order), append(before, int32(s.attempts)) //nolint:gosec // a counter of attempts
		}
		begun[i] = a
		orders[i], numbers[i], issuers[i], authorities[i] = a.Order, int32(a.N), a.Issuer, a.Authority //nolint:gosec // a counter of attempts
		serials[i], urls[i], states[i], started[i] = string(a.Serial), a.ExternalURL, a.State, a.StartedAt
		if !a.TBSDigest.IsZero() {
			digests[i] = a.TBSDigest[:]
		}
		rows[i] = dueRow{kind: dueOrder, id: a.Order, verb: certctl.HintIssue, lane: a.Issuer.String(), at: until}
	}
	if len(lost) > 0 {
		if err := t.put(ctx, `
			update attempt a set outcome = 'abandoned', message = 'its worker gave no sign of life', finished_at = now()
			from unnest($1::uuid[], $2::int[]) as lost(id, n)
			where a.order_id = lost.id and a.n = lost.n and a.outcome = ''`, lost, before); err != nil {
			return nil, err
		}
	}
	if err := t.put(ctx, `
		insert into attempt (order_id, n, issuer_id, authority_id, worker, serial, tbs_digest, external_url, state, lease_until, started_at, csr_spki)
		select id, n, issuer, authority, $10, serial, digest, url, state, $11, started, (select csr_spki from cert_order o where o.id = new.id)
		from unnest($1::uuid[], $2::int[], $3::uuid[], $4::uuid[], $5::text[], $6::bytea[], $7::text[], $8::bytea[], $9::timestamptz[])
			as new(id, n, issuer, authority, serial, digest, url, state, started)`,
		orders, numbers, issuers, authorities, serials, digests, urls, states, started, worker, until); err != nil {
		return nil, err
	}
	if err := t.put(ctx, `
		update cert_order o set lost_leases = case when o.state = 'processing' then o.lost_leases + 1 else o.lost_leases end,
			state = 'processing', wait = '', attempts = new.n, updated_at = now()
		from unnest($1::uuid[], $2::int[]) as new(id, n) where o.id = new.id`, orders, numbers); err != nil {
		return nil, err
	}
	return begun, t.due(ctx, rows...)
}

// parkLost stops asking for an order whose workers die, and says so.
func (s *Store) parkLost(ctx context.Context, order certctl.ID) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		if err := t.lockCertificatesOf(ctx, `select certificate_id from cert_order where id = $1`, order); err != nil {
			return err
		}
		var certificate, issuer certctl.ID
		var team string
		err := t.QueryRow(ctx, `
			update cert_order o set state = 'ready', wait = $2, message = $3, error_code = 'lost_leases', lost_leases = 0, updated_at = now()
			from certificate c join team on team.id = c.team_id
			where o.id = $1 and o.state = 'processing' and c.id = o.certificate_id returning c.id, o.issuer_id, team.name`,
			order, string(certctl.WaitParked), "every worker that asked for it died: see the dead letters").Scan(&certificate, &issuer, &team)
		if err != nil {
			return err
		}
		if err := t.put(ctx, `
			update attempt set outcome = 'abandoned', finished_at = now() where order_id = $1 and outcome = ''`, order); err != nil {
			return err
		}
		if err := t.abandon(ctx, order); err != nil {
			return err
		}
		if err := t.put(ctx, `
			insert into dead_letter (id, verb, lane, ids, reason) values ($1, $2, $3, $4, $5)`,
			certctl.NewID(t.now), string(certctl.HintIssue), issuer.String(), []certctl.ID{order}, "lost_leases"); err != nil {
			return err
		}
		t.eventOutcome(team, certctl.AggregateCertificate, certificate, certctl.EventDeadLettered, certctl.OutcomeFailure, map[string]any{
			"certificate": certificate, "order": order, "code": "lost_leases",
		})
		if err := t.due(ctx, dueRow{kind: dueOrder, id: order, verb: certctl.HintExpire, at: t.now.Add(csrReminder)}); err != nil {
			return err
		}
		return t.refreshStatus(ctx, certificate)
	})
}
