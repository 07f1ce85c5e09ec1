package store

import (
	"context"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// Gauge is one number that the tables say now: a measure, with one label's value
// (or none).
type Gauge struct {
	Measure Measure
	Label   string
	Value   float64
}

// Measure names what a Gauge counts.
type Measure string

// The measures; in parentheses what the label is.
const (
	MeasureOrders       Measure = "orders_waiting"         // open orders (wait reason, or state)
	MeasureDueAge       Measure = "due_oldest_age_seconds" // how long the oldest due row has waited (verb)
	MeasureEventOutAge  Measure = "event_out_oldest_age_seconds"
	MeasureCertificates Measure = "certificates"                        // (status)
	MeasureAgents       Measure = "agents"                              // (state)
	MeasurePresence     Measure = "agents_presence"                     // active agents (presence)
	MeasureIssuerUp     Measure = "issuer_up"                           // 0: its breaker is open (issuer)
	MeasureExpiry       Measure = "served_expiry_min_timestamp_seconds" // (issuer)
	MeasureServed       Measure = "certificates_served"                 // (what is left of their lives)
	MeasureDeadLetters  Measure = "dead_letters"
	MeasureDeployments  Measure = "deployments_open" // not finished (state)
	MeasureTold         Measure = "notifications"    // not delivered (state)
)

// countShare is the part of the time that may be spent with counting certificates
// for measures: after a count of a second, the next one is twenty seconds later.
const countShare = 20

// counted keeps what was counted last. The zero value has counted nothing.
type counted struct {
	mu    sync.Mutex
	all   []Gauge
	again time.Time
}

// get counts again if enough time has passed. Who comes meanwhile waits.
func (c *counted) get(count func() ([]Gauge, error)) ([]Gauge, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := time.Now()
	if began.Before(c.again) {
		return c.all, nil
	}
	all, err := count()
	if err == nil {
		c.all, c.again = all, time.Now().Add(countShare*time.Since(began))
	}
	return all, err
}

// Gauges reads all measures. What is open is counted each time; certificates, of
// which there may be millions, not more often than a twentieth of the time allows.
func (s *Store) Gauges(ctx context.Context) ([]Gauge, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	open, err := s.openGauges(ctx)
	if err != nil {
		return nil, err
	}
	certificates, err := s.counted.get(func() ([]Gauge, error) { return s.certificateGauges(ctx) })
	return append(open, certificates...), err
}

func (s *Store) certificateGauges(ctx context.Context) ([]Gauge, error) {
	all, err := s.gauges(ctx, `
		select $1::text, status, count(*)::float8 from certificate_state where status <> 'archived' group by status
		union all select $2, state, count(*)::float8 from notification where state in ('pending', 'failed') group by state`,
		string(MeasureCertificates), string(MeasureTold))
	if err != nil {
		return nil, err
	}
	served, err := s.servedGauges(ctx)
	return append(all, served...), err
}

// openGauges reads what costs as much as there is to do. How long the oldest rows
// have been due is found by jumping from one share of the queue to the next.
func (s *Store) openGauges(ctx context.Context) ([]Gauge, error) {
	return s.gauges(ctx, `
		with recursive share as (
			(select verb, lane, urgency, due_at from due order by verb, lane, urgency, due_at limit 1)
			union all
			select next.* from share s cross join lateral (
				select verb, lane, urgency, due_at from due where (verb, lane, urgency) > (s.verb, s.lane, s.urgency)
				order by verb, lane, urgency, due_at limit 1) next)
		select $1::text, coalesce(nullif(o.wait, ''), o.state), count(*)::float8
			from due join cert_order o on o.id = due.id where due.kind = 'order' group by 2
		union all select $2, verb, greatest(extract(epoch from now() - min(due_at)), 0)::float8 from share group by verb
		union all select $3, '', coalesce((select greatest(extract(epoch from now()) - -- an event's id begins with its time in ms
			('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0, 0)
			from event_out where aside_at is null order by id limit 1), 0)::float8
		union all select $4, state, count(*)::float8 from agent group by state
		union all select $5, case when contact.at is null then 'never' when contact.at > now() - $8::interval then 'online' else 'offline' end,
			count(*)::float8 from agent left join agent_contact contact on contact.agent_id = agent.id where agent.state = 'active' group by 2
		union all select $6, '', count(*)::float8 from dead_letter where replayed_at is null and discarded_at is null
		union all select $7, d.state, count(*)::float8 from due join deployment d on d.id = due.id where due.kind = 'deployment' group by d.state
		union all select $9, name, min(case when health = 'down' then 0 else 1 end)::float8 from issuer where archived_at is null group by name`,
		string(MeasureOrders), string(MeasureDueAge), string(MeasureEventOutAge), string(MeasureAgents),
		string(MeasurePresence), string(MeasureDeadLetters), string(MeasureDeployments), certctl.OfflineAfter, string(MeasureIssuerUp))
}

func (s *Store) gauges(ctx context.Context, query string, args ...any) ([]Gauge, error) {
	var all []Gauge
	err := s.read(ctx, func(t *tx) error {
		rows, err := t.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Gauge])
		return err
	})
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "the measures could not be read")
	}
	return all, nil
}
