package store

import (
	"context"
	"encoding/json"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// GetOrder returns one order.
func (s *Store) GetOrder(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Order, error) {
	var order certctl.Order
	err := s.readAs(ctx, actor, func(t *tx) (err error) {
		if order, err = t.order(ctx, id); err != nil {
			return err
		}
		return t.ofCertificate(ctx, "order", id, order.Certificate)
	})
	if err != nil {
		return certctl.Order{}, err
	}
	return order, nil
}

// ListOrders returns one page of the orders that a filter selects, newest first.
func (s *Store) ListOrders(ctx context.Context, actor certctl.Actor, filter certctl.OrderFilter) (certctl.Page[certctl.Order], error) {
	var page certctl.Page[certctl.Order]
	err := s.readAs(ctx, actor, func(t *tx) error {
		if err := t.mayList(certctl.ObjectCertificate); err != nil {
			return err
		}
		c := &conditions{}
		if filter.Live || (filter.State != "" && !filter.State.Final()) {
			c.add("o.live")
		}
		if filter.State != "" {
			c.add("o.state = ?", string(filter.State))
		}
		if err := t.belonging(ctx, c, filter.Certificate, filter.Team); err != nil {
			return err
		}
		ids, limit, err := t.listIDs(ctx, "cert_order o", c, filter.PageRequest)
		if err != nil {
			return err
		}
		orders, err := t.orders(ctx, ids)
		page = pageOf(orders, limit, func(o certctl.Order) certctl.ID { return o.ID })
		return err
	})
	return page, err
}

// ListAttempts returns the attempts of an order, oldest first.
func (s *Store) ListAttempts(ctx context.Context, actor certctl.Actor, order certctl.ID) ([]certctl.Attempt, error) {
	var attempts []certctl.Attempt
	err := s.readAs(ctx, actor, func(t *tx) error {
		var certificate certctl.ID
		if err := t.QueryRow(ctx, `select certificate_id from cert_order where id = $1`, order).Scan(&certificate); err != nil {
			return orNotFound(err, "order", order)
		}
		if err := t.ofCertificate(ctx, "order", order, certificate); err != nil {
			return err
		}
		rows, err := t.Query(ctx, `select `+attemptColumns+` from attempt a where order_id = $1 order by n`, order)
		if err != nil {
			return err
		}
		attempts, err = pgx.CollectRows(rows, scanAttempt)
		return err
	})
	return attempts, err
}

// belonging restricts a list of what belongs to certificates (o.certificate_id)
// to one certificate and to teams.
func (t *tx) belonging(ctx context.Context, c *conditions, certificate, team string) error {
	if certificate != "" {
		f, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbRead, certificate)
		if err != nil {
			return err
		}
		c.add("o.certificate_id = ?", f.id)
	}
	if team == "" && t.actor.Principal.Team == "" {
		return nil
	}
	inner := &conditions{args: c.args}
	inner.add("c.id = o.certificate_id")
	t.inTeam(inner, "c.team_id", team)
	c.args = inner.args
	c.add("exists (select from certificate c where " + inner.String() + ")")
	return nil
}

// ofCertificate authorises the actor to read what belongs to a certificate. What
// its team may not know of is not found, under the name that was asked for.
func (t *tx) ofCertificate(ctx context.Context, kind certctl.ObjectKind, id, certificate certctl.ID) error {
	_, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbRead, certificate.String())
	if certctl.ErrorCode(err) == certctl.NotFound {
		return notFound(kind, id.String())
	}
	return err
}

func (t *tx) order(ctx context.Context, id certctl.ID) (certctl.Order, error) {
	orders, err := t.orders(ctx, []certctl.ID{id})
	if err == nil && len(orders) == 0 {
		err = notFound("order", id.String())
	}
	if err != nil {
		return certctl.Order{}, err
	}
	return orders[0], nil
}

// orders reads orders with their due times, in the order of the ids.
func (t *tx) orders(ctx context.Context, ids []certctl.ID) ([]certctl.Order, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := t.Query(ctx, `select `+orderColumns+`
		from cert_order o join holder h on h.id = o.holder_id left join due on due.kind = 'order' and due.id = o.id
		where o.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	read := make(map[certctl.ID]certctl.Order, len(ids))
	all, err := pgx.CollectRows(rows, scanOrder)
	for _, o := range all {
		read[o.ID] = o
	}
	return inOrder(ids, read), err
}

// orderColumns are what scanOrder reads, of cert_order o, holder h and due.
const orderColumns = `o.id, o.certificate_id, o.holder_id, h.kind, o.revision, o.state, o.wait, o.error_code, o.message,
	due.due_at, o.origin, o.requester_id, o.override, o.names, o.profile, o.issuer_id, o.csr, o.attempts, o.waived, o.urgency, o.version_id,
	o.created_at, o.updated_at, o.closed_at, o.maker_id, coalesce((select name from agent where id = o.maker_id), '')`

func scanOrder(row pgx.CollectableRow) (o certctl.Order, err error) {
	var names, profile []byte
	if err := row.Scan(&o.ID, &o.Certificate, &o.Holder, &o.HolderKind, &o.Revision, &o.State, &o.Wait, &o.ErrorCode, &o.Message,
		&o.DueAt, &o.Origin, &o.Requester, &o.Override, &names, &profile, &o.Issuer, &o.CSR, &o.Attempts, &o.Waived, &o.Urgency, &o.Version,
		&o.CreatedAt, &o.UpdatedAt, &o.ClosedAt, &o.Maker.ID, &o.Maker.Name); err != nil {
		return o, err
	}
	if err := json.Unmarshal(names, &o.Names); err != nil {
		return o, err
	}
	return o, json.Unmarshal(profile, &o.Profile)
}

// attemptColumns are what scanAttempt reads, of attempt a.
const attemptColumns = `a.order_id, a.n, a.issuer_id, a.authority_id, a.worker, a.serial, a.tbs_digest, a.external_url, a.state,
	a.lease_until, a.outcome, a.error_code, a.message, a.started_at, a.finished_at, a.csr_spki, a.failure, a.retry_at`

func scanAttempt(row pgx.CollectableRow) (a certctl.Attempt, err error) {
	return a, row.Scan(&a.Order, &a.N, &a.Issuer, &a.Authority, &a.Worker, &a.Serial, &a.TBSDigest, &a.ExternalURL, &a.State,
		&a.LeaseUntil, &a.Outcome, &a.ErrorCode, &a.Message, &a.StartedAt, &a.FinishedAt,
		&a.SPKI, &a.Failure, &a.RetryAt)
}
