package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// sentAgain is how long an issuer that has only taken a revocation is given
// before it is asked again.
const sentAgain = time.Hour

// PendingRevocations returns those of the versions whose issuers have not
// confirmed their revocation. It claims nothing: to revoke twice is harmless.
func (s *Store) PendingRevocations(ctx context.Context, ids []certctl.ID) ([]certctl.RevocationJob, error) {
	var jobs []certctl.RevocationJob
	err := s.readAs(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		rows, err := t.Query(ctx, `
			select version_id, issuer_id, reason, tries from revocation
			where version_id = any($1) and state = any('{requested,sent,failed}') and issuer_id is not null order by version_id`, ids)
		if err != nil {
			return err
		}
		issuers := map[certctl.ID]bool{}
		jobs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (j certctl.RevocationJob, err error) {
			err = row.Scan(&j.Version.ID, &j.Issuer.ID, &j.Reason, &j.Tries)
			issuers[j.Issuer.ID] = true
			return j, err
		})
		if err != nil || len(jobs) == 0 {
			return err
		}
		return t.completeRevocations(ctx, jobs, keysOf(issuers))
	})
	return jobs, err
}

// completeRevocations reads the versions and issuers of jobs.
func (t *tx) completeRevocations(ctx context.Context, jobs []certctl.RevocationJob, issuers []certctl.ID) error {
	ids := make([]certctl.ID, len(jobs))
	for i, job := range jobs {
		ids[i] = job.Version.ID
	}
	versions, err := t.versions(ctx, ids)
	if err != nil {
		return err
	}
	known, sealed, err := t.issuersWithSecrets(ctx, issuers)
	if err != nil {
		return err
	}
	for i := range jobs {
		issuer := jobs[i].Issuer.ID
		jobs[i].Version, jobs[i].Issuer, jobs[i].Sealed = versions[i], known[issuer], sealed[issuer]
	}
	return nil
}

// FinishRevocations records how attempts to revoke ended. A revocation that an
// issuer has confirmed, or does not know at all, stays so.
func (s *Store) FinishRevocations(ctx context.Context, ends []certctl.RevocationEnd) error {
	if len(ends) == 0 {
		return nil
	}
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		n := len(ends)
		ids, states, messages := make([]certctl.ID, n), make([]string, n), make([]string, n)
		byID := make(map[certctl.ID]certctl.RevocationEnd, n)
		for i, end := range ends {
			ids[i], states[i], messages[i], byID[end.Version] = end.Version, string(end.State), certctl.Clip(end.Message, 1000), end
		}
		rows, err := t.Query(ctx, `
			with locked as (select version_id from revocation where version_id = any($1) order by version_id for update),
			changed as (
				update revocation r set state = e.state, message = e.message, tries = r.tries + 1, updated_at = now()
				from unnest($1::uuid[], $2::text[], $3::text[]) as e(id, state, message), locked
				where r.version_id = e.id and locked.version_id = e.id and r.state = any('{requested,sent,failed}')
				returning r.version_id, r.state, r.issuer_id)
			select v.id, v.certificate_id, team.name, v.serial, v.fingerprint, v.revocation, changed.issuer_id, changed.state
			from changed join version v on v.id = changed.version_id
			join certificate c on c.id = v.certificate_id join team on team.id = c.team_id`, ids, states, messages)
		if err != nil {
			return err
		}
		return t.afterRevocations(ctx, rows, byID)
	})
}

// afterRevocations sets when the revocations come up again, or tells how they ended.
func (t *tx) afterRevocations(ctx context.Context, rows pgx.Rows, ends map[certctl.ID]certctl.RevocationEnd) error {
	var v certctl.Version
	var team string
	var state certctl.RevocationState
	var due []dueRow
	var done []certctl.ID
	_, err := pgx.ForEachRow(rows, []any{&v.ID, &v.Certificate, &team, &v.Serial, &v.Fingerprint, &v.Revocation, &v.Issuer, &state}, func() error {
		row := dueRow{kind: dueRevocation, id: v.ID, verb: certctl.HintRevoke, lane: v.Issuer.String(), at: ends[v.ID].RetryAt}
		outcome := certctl.OutcomeSuccess
		switch state {
		case certctl.RevocationConfirmed:
		case certctl.RevocationNotSupported:
			outcome = certctl.OutcomeFailure
		default:
			if state == certctl.RevocationSent {
				row.at = t.now.Add(sentAgain)
			}
			row.at = maxTime(row.at, t.now.Add(time.Second))
			due = append(due, row)
			return nil
		}
		done = append(done, v.ID)
		t.eventOutcome(team, certctl.AggregateCertificate, v.Certificate, certctl.EventRevocationConfirmed, outcome, map[string]any{
			"certificate": v.Certificate, "version": v.ID, "serial": v.Serial, "fingerprint": v.Fingerprint,
			"issuer": v.Issuer, "reason": v.Revocation, "state": state,
		})
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.done(ctx, dueRevocation, done...); err != nil {
		return err
	}
	return t.due(ctx, due...)
}
