package store

import (
	"context"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

const freezeColumns = `f.id, f.name, f.reason, f.labels, f.hard, f.starts_at, f.ends_at, f.ended_at, f.creator, f.created_at`

func scanFreeze(row pgx.CollectableRow) (f certctl.Freeze, err error) {
	return f, row.Scan(&f.ID, &f.Name, &f.Reason, &f.Labels, &f.Hard, &f.StartsAt, &f.EndsAt, &f.EndedAt, &f.Creator, &f.Created)
}

// CreateFreeze begins a freeze, now or later. It concerns the certificates of
// every team, so that nobody who belongs to one may.
func (s *Store) CreateFreeze(ctx context.Context, actor certctl.Actor, freeze certctl.Freeze) (certctl.Freeze, error) {
	err := s.write(ctx, actor, func(t *tx) error {
		if err := t.mayFreeze(certctl.VerbCreate); err != nil {
			return err
		}
		if freeze.StartsAt.IsZero() {
			freeze.StartsAt = t.now
		}
		if err := freeze.Validate(); err != nil {
			return err
		}
		if !freeze.EndsAt.IsZero() && !freeze.EndsAt.After(t.now) {
			return certctl.InvalidField("/ends_at", "is over already")
		}
		freeze.ID, freeze.Creator, freeze.Created = certctl.NewID(t.now), actor.Principal.Name, t.now
		if err := t.put(ctx, `update change_freeze set ended_at = ends_at where name = $1 and ended_at is null and ends_at <= now()`, freeze.Name); err != nil {
			return err
		}
		labels := freeze.Labels
		if labels == nil {
			labels = map[string]string{}
		}
		if _, err := t.Exec(ctx, `
			insert into change_freeze (id, name, reason, labels, hard, starts_at, ends_at, creator) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
			freeze.ID, freeze.Name, freeze.Reason, labels, freeze.Hard, freeze.StartsAt, freeze.EndsAt, freeze.Creator); err != nil {
			return nameTaken(err, certctl.ObjectFreeze, freeze.Name)
		}
		t.event(certctl.DefaultTeam, certctl.AggregateSystem, freeze.ID, certctl.EventFreezeCreated, map[string]any{
			"freeze": freeze.ID, "name": freeze.Name, "hard": freeze.Hard, "starts_at": freeze.StartsAt, "ends_at": freeze.EndsAt,
		})
		return nil
	})
	return freeze, err
}

func (t *tx) mayFreeze(verb certctl.Verb) error {
	if t.actor.Principal.Team != "" {
		return certctl.Errorf(certctl.Denied, "a freeze holds the certificates of every team: %s belongs to one", t.actor.Principal.Name).
			WithRemedy("pause certificates instead, or ask somebody of no team")
	}
	return certctl.Authorize(t.actor.Principal, verb, certctl.Object{Kind: certctl.ObjectFreeze})
}

// ListFreezes returns the freezes that hold now or will, or all that ever were,
// newest first.
func (s *Store) ListFreezes(ctx context.Context, actor certctl.Actor, all bool, request certctl.PageRequest) (certctl.Page[certctl.Freeze], error) {
	var page certctl.Page[certctl.Freeze]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := certctl.Authorize(actor.Principal, certctl.VerbRead, certctl.Object{Kind: certctl.ObjectFreeze}); err != nil {
			return err
		}
		c := &conditions{}
		if !all {
			c.add("o.ended_at is null and (o.ends_at is null or o.ends_at > now())")
		}
		ids, limit, err := t.listIDs(ctx, "change_freeze o", c, request)
		if err != nil {
			return err
		}
		rows, err := t.Query(ctx, `select `+freezeColumns+` from change_freeze f where f.id = any($1)`, ids)
		if err != nil {
			return err
		}
		freezes, err := pgx.CollectRows(rows, scanFreeze)
		read := make(map[certctl.ID]certctl.Freeze, len(freezes))
		for _, f := range freezes {
			read[f.ID] = f
		}
		page = pageOf(inOrder(ids, read), limit, func(f certctl.Freeze) certctl.ID { return f.ID })
		return err
	})
	return page, err
}

// EndFreeze ends a freeze by name or id; what it held goes on at once.
func (s *Store) EndFreeze(ctx context.Context, actor certctl.Actor, ref string) error {
	return s.write(ctx, actor, func(t *tx) error {
		if err := t.mayFreeze(certctl.VerbDelete); err != nil {
			return err
		}
		id, _ := certctl.ParseID(ref) // a name otherwise
		rows, err := t.Query(ctx, `
			update change_freeze f set ended_at = now() where (f.id = $1 or f.name = $2) and f.ended_at is null
			returning `+freezeColumns, id, ref)
		if err != nil {
			return err
		}
		ended, err := pgx.CollectRows(rows, scanFreeze)
		if err != nil {
			return err
		}
		if len(ended) == 0 {
			return notFound("freeze", ref)
		}
		t.event(certctl.DefaultTeam, certctl.AggregateSystem, ended[0].ID, certctl.EventFreezeEnded, map[string]any{
			"freeze": ended[0].ID, "name": ended[0].Name,
		})
		return t.thaw(ctx, ended[0].Labels)
	})
}

// thaw has those looked at again now that a freeze may have held; whether
// something else still does is decided then.
func (t *tx) thaw(ctx context.Context, labels map[string]string) error {
	if labels == nil {
		labels = map[string]string{}
	}
	err := t.put(ctx, `
		update due set due_at = now() from holder h join certificate c on c.id = h.certificate_id join version v on v.id = h.version_id
		where due.kind = 'holder' and due.id = h.id and due.due_at > now() and c.labels @> $1
			and (v.renew_at <= now() or greatest(v.revision, h.kept_revision) < c.revision)`, labels)
	if err != nil {
		return err
	}
	err = t.put(ctx, `
		update due set due_at = now() from deployment d
		where due.kind = 'deployment' and due.id = d.id and due.due_at > now() and d.wait = $1`, string(certctl.WaitFreeze))
	return err
}

// freezes returns the freezes that hold now or will.
func (t *tx) freezes(ctx context.Context) ([]certctl.Freeze, error) {
	rows, err := t.Query(ctx, `
		select `+freezeColumns+` from change_freeze f where f.ended_at is null and (f.ends_at is null or f.ends_at > now())`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanFreeze)
}

// frozen refuses an order by hand that a freeze forbids, unless the actor says
// why it must be. The reason stands in the order, and the event says that there
// is one.
func (t *tx) frozen(ctx context.Context, h *held, override string) error {
	if override != "" {
		return nil
	}
	freezes, err := t.freezes(ctx)
	if err != nil {
		return err
	}
	for _, f := range freezes {
		if f.Covers(h.labels, t.now) {
			return certctl.Errorf(certctl.Conflict, "the freeze %s holds %s", f.Name, h.name).
				WithRemedy("wait for its end, or say in override (certctl: --override) why it cannot wait")
		}
	}
	return nil
}
