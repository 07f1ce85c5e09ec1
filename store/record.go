package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// dueRecord is the kind of rows in the table due for validation records.
const dueRecord = "validation_record"

// recordColumns are what scanRecord reads, of validation_record r and issuer i.
const recordColumns = `r.id, r.certificate_id, i.id, i.name, r.name, r.record, r.value, r.terms, r.state, r.until, r.message, r.checked_at, r.failures, r.told`

func scanRecord(row pgx.CollectableRow) (r certctl.ValidationRecord, err error) {
	return r, row.Scan(&r.ID, &r.Certificate, &r.Issuer.ID, &r.Issuer.Name, &r.Name, &r.Record, &r.Value, &r.Terms, &r.State, &r.Until,
		&r.Message, &r.CheckedAt, &r.Failures, &r.Told)
}

func (t *tx) records(ctx context.Context, where string, args ...any) ([]certctl.ValidationRecord, error) {
	rows, err := t.Query(ctx, `
		select `+recordColumns+` from validation_record r join issuer i on i.id = r.issuer_id where `+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanRecord)
}

// ListValidationRecords returns what is to be published for a certificate, by
// issuer and name.
func (s *Store) ListValidationRecords(ctx context.Context, actor certctl.Actor, ref string) ([]certctl.ValidationRecord, error) {
	var records []certctl.ValidationRecord
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		records, err = t.records(ctx, `r.certificate_id = $1 order by i.name, i.id, r.name`, f.id)
		return err
	})
	return records, err
}

// recorded is whose records change.
type recorded struct {
	certificate certctl.ID
	name, team  string
}

// PutValidationRecords records what an order needs to be published for its issuer,
// all of it, and what was found. They are looked at again by and by.
func (s *Store) PutValidationRecords(ctx context.Context, order, issuer certctl.ID, wanted []certctl.ValidationRecord, fraction float64) error {
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		var of recorded
		err := t.QueryRow(ctx, `
			select c.id, c.name, team.name from cert_order o join certificate c on c.id = o.certificate_id join team on team.id = c.team_id
			where o.id = $1 for no key update of c`, order).Scan(&of.certificate, &of.name, &of.team)
		if err != nil {
			return orNotFound(err, "order", order)
		}
		known, err := t.records(ctx, `r.certificate_id = $1 and r.issuer_id = $2 for update of r`, of.certificate, issuer)
		if err != nil {
			return err
		}
		before := map[string]certctl.ValidationRecord{}
		for _, r := range known {
			before[r.Name] = r
		}
		for _, r := range wanted {
			was, found := before[r.Name]
			delete(before, r.Name)
			if r.ID, r.Certificate, r.Told = was.ID, of.certificate, was.Told; !found {
				r.ID = certctl.NewID(t.now)
			}
			switch {
			case r.State != certctl.RecordUnreachable:
			case found && r.Value == was.Value:
				r = unreachable(was, r.Message)
			default:
				r.Failures = certctl.RecordFailures
			}
			t.tellRecord(of, was, &r)
			if err := t.putRecord(ctx, r); err != nil {
				return err
			}
			if err := t.due(ctx, recordDue(certctl.RecordCheck{Record: r.ID, NextAt: certctl.NextRecordCheck(r.RecordFinding, t.now, fraction)})); err != nil {
				return err
			}
		}
		for _, r := range before {
			if err := t.dropRecord(ctx, of, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func recordDue(c certctl.RecordCheck) dueRow {
	return dueRow{kind: dueRecord, id: c.Record, verb: certctl.HintRecords, urgency: certctl.UrgencyNormal, at: c.NextAt}
}

func (t *tx) putRecord(ctx context.Context, r certctl.ValidationRecord) error {
	return t.put(ctx, `
		insert into validation_record (id, certificate_id, issuer_id, name, record, value, terms, state, until, message, checked_at, told)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, case when $12 = 0 then now() end, $11)
		on conflict (id) do update set record = excluded.record, value = excluded.value, terms = excluded.terms, state = excluded.state,
			until = excluded.until, message = excluded.message, told = excluded.told, failures = $12,
			checked_at = case when $12 = 0 then now() else validation_record.checked_at end`,
		r.ID, r.Certificate, r.Issuer.ID, r.Name, r.Record, r.Value, r.Terms, string(r.State), r.Until, certctl.Clip(r.Message, 1000), int64(r.Told), r.Failures)
}

// tellRecord tells people what has changed for the worse, or is well again: each
// state once, and each alert before a record's end once.
func (t *tx) tellRecord(of recorded, was certctl.ValidationRecord, r *certctl.ValidationRecord) {
	passed := r.Passed(t.now)
	switch {
	case r.State == certctl.RecordPublished && passed > 0:
		r.Told = passed
		if was.Told == 0 || passed < was.Told {
			t.recordEvent(of, *r, certctl.EventRecordExpiring)
		}
	case r.State == certctl.RecordPublished && passed == 0:
		r.Told = 0
		if was.Told > 0 || was.State != "" && was.State != certctl.RecordPublished {
			t.recordEvent(of, *r, certctl.EventRecordSettled)
		}
	case r.State != certctl.RecordPublished:
		r.Told = 0
		if r.State != was.State || r.Value != was.Value {
			t.recordEvent(of, *r, certctl.EventRecordMissing)
		}
	}
}

func (t *tx) recordEvent(of recorded, r certctl.ValidationRecord, name certctl.EventName) {
	data := map[string]any{"certificate": of.certificate, "name": of.name, "issuer": r.Issuer.ID, "record": r.Record, "state": r.State}
	if !r.Until.IsZero() {
		data["until"] = r.Until
	}
	if name == certctl.EventRecordExpiring {
		data["threshold"] = r.Told
	}
	t.event(of.team, certctl.AggregateCertificate, of.certificate, name, data)
}

// dropRecord forgets a record that proves nothing any more.
func (t *tx) dropRecord(ctx context.Context, of recorded, r certctl.ValidationRecord) error {
	if r.State != certctl.RecordPublished || r.Told > 0 {
		r.State = certctl.RecordUnneeded
		t.recordEvent(of, r, certctl.EventRecordSettled)
	}
	if err := t.done(ctx, dueRecord, r.ID); err != nil {
		return err
	}
	return t.put(ctx, `delete from validation_record where id = $1`, r.ID)
}

// RecordJobs returns those of the records that are worth looking at: of certificates
// that are still there, have the name and the issuer. The others are forgotten.
func (s *Store) RecordJobs(ctx context.Context, ids []certctl.ID) ([]certctl.RecordJob, error) {
	var jobs []certctl.RecordJob
	err := s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		records, err := t.records(ctx, `
			r.id = any($1) and exists (select from certificate c where c.id = r.certificate_id and c.archived_at is null
				and r.issuer_id = any(c.issuers) and (r.name = any(c.dns) or '*.' || r.name = any(c.dns))) order by r.id`, ids)
		if err != nil {
			return err
		}
		current, issuers := make([]certctl.ID, len(records)), map[certctl.ID]bool{}
		for i, r := range records {
			current[i], issuers[r.Issuer.ID] = r.ID, true
		}
		if err := t.dropRecords(ctx, `r.id = any($1) and r.id <> all($2)`, ids, current); err != nil {
			return err
		}
		if err := t.put(ctx, `delete from due where kind = $1 and id = any($2) and id <> all($3)`, dueRecord, ids, current); err != nil {
			return err
		}
		known, sealed, err := t.issuersWithSecrets(ctx, keysOf(issuers))
		jobs = make([]certctl.RecordJob, len(records))
		for i, r := range records {
			jobs[i] = certctl.RecordJob{Record: r, Issuer: known[r.Issuer.ID], Sealed: sealed[r.Issuer.ID]}
		}
		return err
	})
	return jobs, err
}

func (t *tx) dropRecords(ctx context.Context, where string, args ...any) error {
	if err := t.lockCertificatesOf(ctx, `select r.certificate_id from validation_record r where `+where, args...); err != nil {
		return err
	}
	gone, err := t.records(ctx, where+` order by r.id for update of r`, args...)
	if err != nil || len(gone) == 0 {
		return err
	}
	owners, err := t.recordOwners(ctx, gone)
	if err != nil {
		return err
	}
	for _, r := range gone {
		if err := t.dropRecord(ctx, owners[r.Certificate], r); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) recordOwners(ctx context.Context, records []certctl.ValidationRecord) (map[certctl.ID]recorded, error) {
	ids := make([]certctl.ID, len(records))
	for i, r := range records {
		ids[i] = r.Certificate
	}
	rows, err := t.Query(ctx, `
		select c.id, c.name, team.name from certificate c join team on team.id = c.team_id where c.id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	owners := map[certctl.ID]recorded{}
	var of recorded
	_, err = pgx.ForEachRow(rows, []any{&of.certificate, &of.name, &of.team}, func() error {
		owners[of.certificate] = of
		return nil
	})
	return owners, err
}

// FinishRecords records what came of looking at records. One that was changed
// meanwhile is looked at again.
func (s *Store) FinishRecords(ctx context.Context, checks []certctl.RecordCheck) error {
	byRecord, ids := make(map[certctl.ID]certctl.RecordCheck, len(checks)), make([]certctl.ID, len(checks))
	for i, c := range checks {
		byRecord[c.Record], ids[i] = c, c.Record
	}
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		if err := t.lockCertificatesOf(ctx, `select certificate_id from validation_record where id = any($1)`, ids); err != nil {
			return err
		}
		records, err := t.records(ctx, `r.id = any($1) order by r.id for update of r`, ids)
		if err != nil || len(records) == 0 {
			return err
		}
		owners, err := t.recordOwners(ctx, records)
		if err != nil {
			return err
		}
		for _, was := range records {
			if err := t.finishRecord(ctx, owners[was.Certificate], was, byRecord[was.ID]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) finishRecord(ctx context.Context, of recorded, was certctl.ValidationRecord, check certctl.RecordCheck) error {
	if check.Value != was.Value {
		check.NextAt = t.now
		return t.due(ctx, recordDue(check))
	}
	if check.Finding.State == certctl.RecordUnneeded {
		return t.dropRecord(ctx, of, was)
	}
	now := was
	now.RecordFinding, now.Failures = check.Finding, 0
	if check.Err != nil {
		now = unreachable(was, certctl.ErrorMessage(check.Err))
	}
	t.tellRecord(of, was, &now)
	if err := t.putRecord(ctx, now); err != nil {
		return err
	}
	return t.due(ctx, recordDue(check))
}

// unreachable is a record that could not be looked at once more: what was found
// before stays until that has happened often enough.
func unreachable(was certctl.ValidationRecord, message string) certctl.ValidationRecord {
	was.Failures, was.Message = was.Failures+1, message
	if was.Failures >= certctl.RecordFailures {
		was.State, was.Until = certctl.RecordUnreachable, time.Time{}
	}
	return was
}
