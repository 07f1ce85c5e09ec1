package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// TrialJobs takes on those of the tests that a worker can go on with or is to clean
// up after, for as long as the lease says.
func (s *Store) TrialJobs(ctx context.Context, ids []certctl.ID, worker string, lease time.Duration) ([]certctl.TrialJob, error) {
	var jobs []certctl.TrialJob
	err := s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		rows, err := t.Query(ctx, `
			with mine as (
				update trial set worker = $2, lease_until = now() + $3, wait = '' where id = any(array(
					select id from trial where id = any($1) and (lease_until is null or lease_until < now())
						and exists (select from due where kind = 'trial' and id = trial.id)
					order by id for no key update skip locked))
				returning *)
			select `+trialColumns+`, x.profile, x.csr, x.external_url, x.state, x.tries
			from mine x join issuer i on i.id = x.issuer_id join team on team.id = x.team_id order by x.id`, ids, worker, lease)
		if err != nil {
			return err
		}
		issuers := map[certctl.ID]bool{}
		jobs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (j certctl.TrialJob, err error) {
			x := &j.Trial
			err = row.Scan(&x.ID, &x.Certificate.ID, &x.Name, &x.Team, &x.Issuer.ID, &x.Issuer.Name, &x.Directory, &x.Names, &x.Outcome, &x.Steps,
				&x.Wait, &x.ErrorCode, &x.Message, &x.CreatedAt, &x.EndedAt, &j.Profile, &j.CSR, &j.Attempt.ExternalURL, &j.Attempt.State, &j.Tries)
			j.Attempt.Order, j.Attempt.N, j.Attempt.Issuer, j.Attempt.Worker = x.ID, 1, x.Issuer.ID, worker
			issuers[x.Issuer.ID] = true
			return j, err
		})
		if err != nil || len(jobs) == 0 {
			return err
		}
		known, sealed, err := t.issuersWithSecrets(ctx, keysOf(issuers))
		for i := range jobs {
			jobs[i].Issuer, jobs[i].Sealed = known[jobs[i].Trial.Issuer.ID], sealed[jobs[i].Trial.Issuer.ID]
		}
		return err
	})
	return jobs, err
}

// GiveTrialCSR records what the CA is to be asked for. Nobody has the key.
func (s *Store) GiveTrialCSR(ctx context.Context, id certctl.ID, worker string, csr []byte) error {
	return s.ofTrial(ctx, id, worker, `csr = $3`, csr)
}

// ofTrial changes a test on behalf of the worker that has taken it on.
func (s *Store) ofTrial(ctx context.Context, id certctl.ID, worker, change string, args ...any) error {
	tag, err := s.pool.Exec(ctx, `update trial set `+change+` where id = $1 and worker = $2 and lease_until is not null and outcome = 'running'`,
		append([]any{id, worker}, args...)...)
	if err == nil && tag.RowsAffected() == 0 {
		return certctl.Errorf(certctl.Conflict, "the test %s is another worker's by now", id)
	}
	return failed(err, "the test could not be recorded")
}

// FinishTrial records what came of working on a test: how it ended, or what it
// waits for.
func (s *Store) FinishTrial(ctx context.Context, end certctl.TrialEnd) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		ended := end.Outcome != certctl.TrialRunning
		tag, err := t.Exec(ctx, `
			update trial set outcome = $3, wait = $4, error_code = $5, message = $6, ended_at = case when $7 then now() end,
				lease_until = null
			where id = $1 and worker = $2 and lease_until is not null and outcome = 'running'`,
			end.ID, end.Worker, string(end.Outcome), string(end.Wait), end.Code, certctl.Clip(end.Message, 2000), ended)
		if err != nil || tag.RowsAffected() == 0 {
			return err // another worker has it
		}
		trial, err := t.trial(ctx, end.ID)
		if err != nil {
			return err
		}
		due := trialDue(end.ID, trial.Issuer.ID)
		due.at = end.RetryAt
		if ended {
			t.trialEvent(trial)
			due.at = t.now.Add(agentReminder)
		}
		return t.due(ctx, due)
	})
}

func (t *tx) trialEvent(trial certctl.Trial) {
	name, outcome, object := certctl.EventCertificateTested, certctl.OutcomeSuccess, trial.Certificate.ID
	if trial.Outcome == certctl.TrialFailed {
		name, outcome = certctl.EventTestFailed, certctl.OutcomeFailure
	}
	if object.IsZero() {
		object = trial.ID
	}
	data := map[string]any{"name": trial.Name, "test": trial.ID, "issuer": trial.Issuer.ID, "code": trial.ErrorCode}
	ofTested(data, trial.Certificate.ID)
	t.eventOutcome(trial.Team, certctl.AggregateCertificate, object, name, outcome, data)
}

// ofTested names the certificate of an event's test, unless it is not made yet.
func ofTested(data map[string]any, certificate certctl.ID) {
	if !certificate.IsZero() {
		data["certificate"] = certificate
	}
}

// CleanTrial records that nothing is left of a test that has ended, or when it is
// tried again to remove it.
func (s *Store) CleanTrial(ctx context.Context, id certctl.ID, worker string, cause error, retryAt time.Time) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		var tries int
		var issuer certctl.ID
		err := t.QueryRow(ctx, `
			update trial set lease_until = null, tries = tries + 1 where id = $1 and worker = $2 and lease_until is not null and outcome <> 'running'
			returning tries, issuer_id`, id, worker).Scan(&tries, &issuer)
		if err != nil {
			return orNotFound(err, "test", id)
		}
		if cause != nil && tries < certctl.MaxAbandonTries {
			due := trialDue(id, issuer)
			due.at = retryAt
			return t.due(ctx, due)
		}
		if err := t.dropProofs(ctx, `p.external_id = any(array(select id from external_order where trial_id = $1))`, id); err != nil {
			return err
		}
		if err := t.put(ctx, `delete from external_order where trial_id = $1`, id); err != nil {
			return err
		}
		return t.done(ctx, dueTrial, id)
	})
}

// provenTrials ends the wait of tests for the nodes that prove their names.
func (b *reportBatch) provenTrials(ctx context.Context, externals []certctl.ID) error {
	rows, err := b.Query(ctx, `
		select x.trial_id, x.issuer_id from external_order x join trial on trial.id = x.trial_id
		where x.id = any($1) and trial.outcome = 'running' and trial.lease_until is null
			and (exists (select from node_proof where external_id = x.id and refusal is not null)
				or not exists (select from node_proof where external_id = x.id and held_at is null))`, externals)
	if err != nil {
		return err
	}
	var trial, issuer certctl.ID
	_, err = pgx.ForEachRow(rows, []any{&trial, &issuer}, func() error {
		due := trialDue(trial, issuer)
		due.at = b.now.Add(agentReminder)
		b.due = append(b.due, due)
		b.hint(certctl.HintTrial, issuer.String(), trial)
		return nil
	})
	return err
}
