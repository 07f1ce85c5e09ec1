package store

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl"
)

// Locks are taken in one order, or transactions wait for each other in a ring:
// certificates by id, then their holders and bindings, then orders, attempts,
// deployments. Whoever changes what belongs to a certificate and will refresh
// its status locks the certificate first.

// lockCertificates locks certificates in the order of their ids until the end
// of the transaction. Rows that refer to them may still be made by others.
func (t *tx) lockCertificates(ctx context.Context, ids ...certctl.ID) error {
	err := t.put(ctx, `select from certificate where id = any($1) order by id for no key update`, ids)
	return err
}

// statusRow is what the status of one certificate is computed from, and what it
// says now.
type statusRow struct {
	id       certctl.ID
	status   certctl.CertificateStatus
	reason   string
	notAfter time.Time // the earliest end among the holders' newest versions

	storedStatus   string
	storedReason   string
	storedNotAfter time.Time

	facts    certctl.CertificateFacts
	holders  int
	targets  int // live bindings
	order    string
	wait     string
	message  string // of the newest order
	problem  string // of one broken deployment
	awaiting string // who must make a key or send a CSR
}

// refreshStatus computes the statuses of certificates anew and stores what has
// changed, with the earliest end among their holders' newest versions. Use cases
// call it last, for every certificate of which they changed anything.
func (t *tx) refreshStatus(ctx context.Context, certificates ...certctl.ID) error {
	if len(certificates) == 0 {
		return nil
	}
	// A statement sees what was committed before it began. Without the lock, two
	// transactions that change two deployments of one certificate would each
	// compute its status without the other's change.
	if err := t.lockCertificates(ctx, certificates...); err != nil {
		return err
	}
	rows, err := t.statusRows(ctx, certificates)
	if err != nil {
		return err
	}
	var ids []certctl.ID
	var statuses, reasons []string
	var ends []time.Time
	for _, row := range rows {
		row.decide()
		if string(row.status) != row.storedStatus || row.reason != row.storedReason || !row.notAfter.Equal(row.storedNotAfter) {
			ids, statuses = append(ids, row.id), append(statuses, string(row.status))
			reasons, ends = append(reasons, row.reason), append(ends, row.notAfter)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	err = t.put(ctx, `
		update certificate c set status = new.status, status_reason = new.reason, not_after = new.not_after, updated_at = now()
		from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) as new(id, status, reason, not_after)
		where c.id = new.id`, ids, statuses, reasons, ends)
	return err
}

// statusRows reads the facts. Its subqueries go by certificate through indexes,
// whatever the planner thinks of the tables' sizes.
func (t *tx) statusRows(ctx context.Context, certificates []certctl.ID) ([]*statusRow, error) {
	rows, err := t.Query(ctx, `
		select c.id, c.status, c.status_reason, c.not_after, c.archived_at is not null, c.issuers = '{}',
			held.holders, held.versions, held.missing, held.revoked, held.not_after,
			coalesce(o.state, ''), coalesce(o.wait, ''), coalesce(o.message, ''), coalesce(o.awaiting, ''),
			installed.targets, installed.open, installed.broken, coalesce(installed.problem, '')
		from certificate c
		cross join lateral (
			select count(*) as holders, count(*) filter (where v.id is null) as missing, count(v.id) filter (where v.revoked_at is null) as versions,
				coalesce(bool_or(v.revoked_at is not null), false) as revoked, min(v.not_after) as not_after
			from holder h left join version v on v.id = h.version_id
			where h.certificate_id = c.id and h.ended_at is null) held
		left join lateral (
			select o.state, o.wait, o.message, coalesce('agent ' || agent.name,
				case h.kind when 'shared' then 'one of its agents' else 'its client' end) as awaiting
			from cert_order o join holder h on h.id = o.holder_id left join agent on agent.id = coalesce(h.agent_id, o.maker_id)
			where o.certificate_id = c.id and h.ended_at is null order by o.id desc limit 1) o on true
		cross join lateral (
			select count(b.id) as targets, count(*) filter (where d.state in ('pending', 'installing')) as open,
				count(*) filter (where d.state in ('rolled_back', 'failed')) as broken,
				max(target.name || ': ' || coalesce(nullif(d.message, ''), d.reason)) filter (where d.state in ('rolled_back', 'failed')) as problem
			from binding b join target on target.id = b.target_id left join holder h on h.id = b.holder_id
			left join deployment d on d.binding_id = b.id and d.version_id = h.version_id
			where b.certificate_id = c.id and b.unbound_at is null) installed
		where c.id = any($1)`, certificates)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*statusRow
	for rows.Next() {
		r := &statusRow{}
		if err := rows.Scan(&r.id, &r.storedStatus, &r.storedReason, &r.storedNotAfter, &r.facts.Archived, &r.facts.Monitored,
			&r.holders, &r.facts.Versions, &r.facts.Missing, &r.facts.Revoked, &r.notAfter, &r.order, &r.wait, &r.message, &r.awaiting,
			&r.targets, &r.facts.OpenDeployments, &r.facts.BrokenDeployments, &r.problem); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// decide computes the status and says why, for a person.
func (r *statusRow) decide() {
	state := certctl.OrderState(r.order)
	r.facts.LastOrderRefused = state == certctl.OrderRefused
	r.status, r.reason = certctl.StatusOf(r.facts), ""
	switch {
	case r.status == certctl.StatusDegraded:
		r.reason = certctl.Clip(r.problem, 500)
	case r.status == certctl.StatusDeploying && r.facts.OpenDeployments == 0:
		r.reason = orderReason(state, certctl.WaitReason(r.wait), r.message, r.awaiting)
	case r.status == certctl.StatusDeploying:
		r.reason = fmt.Sprintf("on its way to %d of %d targets", r.facts.OpenDeployments, r.targets)
	case r.status == certctl.StatusRefused:
		r.reason = certctl.Clip(r.message, 500)
	case r.status == certctl.StatusPending && r.holders == 0:
		r.reason = noTargetReason
	case r.status == certctl.StatusPending, r.status == certctl.StatusActive, r.status == certctl.StatusRevoked:
		r.reason = orderReason(state, certctl.WaitReason(r.wait), r.message, r.awaiting)
		switch {
		case state == certctl.OrderCancelled && r.status == certctl.StatusPending:
			r.reason = "its order was cancelled: renew it to order again"
		case state == certctl.OrderRefused:
			r.reason = certctl.Clip("the last renewal was refused: "+r.message, 500)
		}
	}
}

// noTargetReason is why an agent-mode certificate without a target is pending.
const noTargetReason = "bound to no target: bind it to one, whose agent then makes the key"

// orderReason says in words what an unfinished order waits for.
func orderReason(state certctl.OrderState, wait certctl.WaitReason, message, awaiting string) string {
	switch {
	case state == certctl.OrderAwaitingApproval:
		return "waits for approval"
	case state == certctl.OrderAwaitingCSR && wait == certctl.WaitCSR:
		return "waits for a certificate request from its client"
	case state == certctl.OrderAwaitingCSR:
		return "waits for a key and a certificate request from " + awaiting
	case (state == certctl.OrderReady || state == certctl.OrderProcessing) && wait != certctl.WaitNone && message != "":
		return certctl.Clip(message, 500)
	case state == certctl.OrderReady && wait != certctl.WaitNone:
		return "waits: " + string(wait)
	case state == certctl.OrderReady, state == certctl.OrderProcessing:
		return "is being issued"
	}
	return ""
}
