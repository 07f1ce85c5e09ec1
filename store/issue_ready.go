package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// ReadyOrders returns those of the orders that may be asked for now: they are
// ready and wait for nothing, or their attempt goes on after a pause or because
// its worker's lease has run out (Previous).
// Orders of paused issuers and certificates are left out. It claims nothing, see BeginIssue.
func (s *Store) ReadyOrders(ctx context.Context, ids []certctl.ID) ([]certctl.IssueJob, error) {
	var jobs []certctl.IssueJob
	err := s.read(ctx, func(t *tx) error {
		var ready []certctl.ID
		if err := t.QueryRow(ctx, `
			select array(
				select o.id from cert_order o join issuer i on i.id = o.issuer_id join certificate c on c.id = o.certificate_id
				left join attempt a on a.order_id = o.id and a.n = o.attempts
				where o.id = any($1) and not i.paused and not c.paused
					and not exists (select from version_stub s, recovery r where s.order_id = o.id and r.finished_at is null) -- it has been issued
					and (o.state = 'ready' and o.wait = '' or o.state = 'processing' and o.wait = '' and a.outcome = '' and (a.paused or a.lease_until < now()))
				order by o.urgency, o.id)`, ids).Scan(&ready); err != nil || len(ready) == 0 {
			return err
		}
		orders, err := t.orders(ctx, ready)
		if err != nil {
			return err
		}
		jobs = make([]certctl.IssueJob, len(orders))
		for i, o := range orders {
			jobs[i].Order, jobs[i].ReadAt = o, t.now
		}
		return t.completeJobs(ctx, jobs)
	})
	return jobs, err
}

// completeJobs reads what jobs need besides their orders. Policies and issuers
// are read once each, however many orders they have.
func (t *tx) completeJobs(ctx context.Context, jobs []certctl.IssueJob) error {
	issuers := map[certctl.ID]bool{}
	for _, job := range jobs {
		issuers[job.Order.Issuer] = true
	}
	known, sealed, err := t.issuersWithSecrets(ctx, keysOf(issuers))
	if err != nil {
		return err
	}
	for i := range jobs {
		jobs[i].Issuer, jobs[i].Sealed = known[jobs[i].Order.Issuer], sealed[jobs[i].Order.Issuer]
	}
	if err := t.jobPolicies(ctx, jobs); err != nil {
		return err
	}
	return t.jobAttempts(ctx, jobs)
}

// jobPolicies adds teams, renewal policies and the versions to be replaced.
func (t *tx) jobPolicies(ctx context.Context, jobs []certctl.IssueJob) error {
	byOrder := make(map[certctl.ID]*certctl.IssueJob, len(jobs))
	ids := make([]certctl.ID, len(jobs))
	for i := range jobs {
		ids[i] = jobs[i].Order.ID
		byOrder[ids[i]] = &jobs[i]
	}
	rows, err := t.Query(ctx, `
		select o.id, team.name, c.policy_id, h.version_id
		from cert_order o join certificate c on c.id = o.certificate_id join team on team.id = c.team_id
		join holder h on h.id = o.holder_id where o.id = any($1)`, ids)
	if err != nil {
		return err
	}
	policies, replaced := map[certctl.ID]bool{}, map[certctl.ID]bool{}
	var order, policy, version certctl.ID
	var team string
	if _, err := pgx.ForEachRow(rows, []any{&order, &team, &policy, &version}, func() error {
		job := byOrder[order]
		job.Team, job.Policy.ID, job.Replaces.ID = team, policy, version
		policies[policy], replaced[version] = true, true
		return nil
	}); err != nil {
		return err
	}
	delete(replaced, certctl.NoID)
	known, err := t.policiesByID(ctx, keysOf(policies))
	if err != nil {
		return err
	}
	all, err := t.versions(ctx, keysOf(replaced))
	versions := make(map[certctl.ID]certctl.Version, len(all))
	for _, v := range all {
		versions[v.ID] = v
	}
	for i := range jobs {
		jobs[i].Policy, jobs[i].Replaces = known[jobs[i].Policy.ID], versions[jobs[i].Replaces.ID]
	}
	return err
}

// jobAttempts adds the attempts that go on, or whose lease has run out.
func (t *tx) jobAttempts(ctx context.Context, jobs []certctl.IssueJob) error {
	lapsed := map[certctl.ID]*certctl.IssueJob{}
	for i := range jobs {
		if jobs[i].Order.State == certctl.OrderProcessing {
			lapsed[jobs[i].Order.ID] = &jobs[i]
		}
	}
	if len(lapsed) == 0 {
		return nil
	}
	rows, err := t.Query(ctx, `select `+attemptColumns+`
		from attempt a join cert_order o on o.id = a.order_id and o.attempts = a.n where o.id = any($1)`, sortedIDs(lapsed))
	if err != nil {
		return err
	}
	attempts, err := pgx.CollectRows(rows, scanAttempt)
	for i := range attempts {
		lapsed[attempts[i].Order].Previous = &attempts[i]
	}
	return err
}

// ExtendLease keeps an attempt for its worker until lease from now. It is a
// Conflict when the attempt has ended or belongs to another one.
func (s *Store) ExtendLease(ctx context.Context, order certctl.ID, n int, worker string, lease time.Duration) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		until := t.now.Add(lease)
		tag, err := t.Exec(ctx, `
			update attempt a set lease_until = $4 from cert_order o
			where a.order_id = $1 and a.n = $2 and a.worker = $3 and a.outcome = '' and not a.paused
				and o.id = a.order_id and o.attempts = a.n and o.state = 'processing'`, order, n, worker, until)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return lostAttempt(order, n)
		}
		if err := t.put(ctx, `update issuer_slot set until = $2 where order_id = $1`, order, until); err != nil {
			return err
		}
		err = t.put(ctx, `update due set due_at = $2 where kind = 'order' and id = $1`, order, until)
		return err
	})
}

// SaveAttemptState records where an attempt stands at its CA, so that whoever
// takes it over goes on from there. It is a Conflict as in ExtendLease.
func (s *Store) SaveAttemptState(ctx context.Context, order certctl.ID, n int, worker, externalURL string, state []byte) error {
	tag, err := s.pool.Exec(ctx, `
		update attempt a set external_url = $4, state = $5 from cert_order o
		where a.order_id = $1 and a.n = $2 and a.worker = $3 and a.outcome = '' and not a.paused
			and o.id = a.order_id and o.attempts = a.n and o.state = 'processing'`, order, n, worker, externalURL, state)
	if err == nil && tag.RowsAffected() == 0 {
		return lostAttempt(order, n)
	}
	return failed(err, "the attempt's state could not be recorded")
}

func lostAttempt(order certctl.ID, n int) error {
	return certctl.Errorf(certctl.Conflict, "attempt %d of order %s has ended, or another worker has taken over", n, order)
}
