package store

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// ListEvents returns events from the table, oldest first or newest first. After
// is where the last answer ended: events that come after it in that direction.
//
// What concerns access (principals, keys, tokens, refused requests) is shown to
// those only who may audit.
func (s *Store) ListEvents(ctx context.Context, actor certctl.Actor, filter certctl.EventFilter) ([]certctl.Event, error) {
	var events []certctl.Event
	err := s.readAs(ctx, actor, func(t *tx) error {
		c, limit, err := t.eventConditions(filter)
		if err != nil {
			return err
		}
		direction := "asc"
		if filter.Newest {
			direction = "desc"
		}
		rows, err := t.list(ctx, "select o.body, o.trace from event o where "+c.String()+
			" order by o.id "+direction+" limit "+strconv.Itoa(limit), c)
		if err != nil {
			return err
		}
		events, err = pgx.CollectRows(rows, scanEvent)
		return err
	})
	return events, err
}

// eventConditions turns a filter into clauses. Times become bounds of the id,
// which finds the partition.
func (t *tx) eventConditions(f certctl.EventFilter) (*conditions, int, error) {
	if err := t.mayList(certctl.ObjectEvent); err != nil {
		return nil, 0, err
	}
	_, limit, err := pageBounds(certctl.PageRequest{Limit: f.Limit})
	if err != nil {
		return nil, 0, err
	}
	c := &conditions{}
	if !f.After.IsZero() && f.Newest {
		c.add("o.id < ?", f.After)
	} else if !f.After.IsZero() {
		c.add("o.id > ?", f.After)
	}
	if !f.Since.IsZero() {
		c.add("o.id >= ?", certctl.FirstIDAt(f.Since))
	}
	if !f.Until.IsZero() {
		c.add("o.id < ?", certctl.FirstIDAt(f.Until))
	}
	t.inTeam(c, "o.team_id", f.Team)
	audit := certctl.Object{Kind: certctl.ObjectEvent, Team: t.actor.Principal.Team}
	if !certctl.Allowed(t.actor.Principal, certctl.VerbAudit, audit) {
		c.add("o.aggregate <> ?", string(certctl.AggregateAccess))
	}
	if f.Aggregate != "" {
		c.add("o.aggregate = ?", string(f.Aggregate))
	}
	if !f.Object.IsZero() {
		c.add("o.object_id = ?", f.Object)
	}
	if f.Name != "" {
		c.add("o.name = ?", string(f.Name))
	}
	if f.Actor != "" {
		c.add("o.actor = ?", f.Actor)
	}
	return c, limit, nil
}

// scanEvent reads an event back from its canonical bytes.
func scanEvent(row pgx.CollectableRow) (e certctl.Event, err error) {
	var body []byte
	var trace string
	if err := row.Scan(&body, &trace); err != nil {
		return e, err
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return e, err
	}
	e.Trace = trace
	return e, nil
}
