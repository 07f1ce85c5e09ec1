package store

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// dueRenewalInfo is the kind of rows in the table due for versions whose CA is to
// be asked when it would have them renewed.
const dueRenewalInfo = "renewal_info"

// recallQuiet is how long after a recall another one of the same issuer has no
// more of its leaves asked about at once: all of them were.
const recallQuiet = "15 minutes"

func renewalInfoDue(version, issuer certctl.ID, at time.Time) dueRow {
	return dueRow{kind: dueRenewalInfo, id: version, verb: certctl.HintRenewalInfo, lane: issuer.String(), urgency: certctl.UrgencyNormal, at: at}
}

// askRenewalInfo has the CAs of new leaves asked, where a CA may know something.
func (t *tx) askRenewalInfo(ctx context.Context, issued []*finishing) error {
	var rows []dueRow
	for _, f := range issued {
		if !f.end.AskAt.IsZero() && !f.ended {
			rows = append(rows, renewalInfoDue(f.version, f.order.Issuer, f.end.AskAt))
		}
	}
	return t.due(ctx, rows...)
}

// RenewalInfoJobs returns those of the versions whose CA is worth asking: the
// newest of their holders, good still. Of the others nobody asks again.
func (s *Store) RenewalInfoJobs(ctx context.Context, ids []certctl.ID) ([]certctl.RenewalInfoJob, error) {
	var jobs []certctl.RenewalInfoJob
	err := s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		rows, err := t.Query(ctx, `
			select v.id, coalesce(i.failures, 0) from version v join holder h on h.id = v.holder_id and h.version_id = v.id
			join certificate c on c.id = v.certificate_id left join renewal_info i on i.version_id = v.id
			where v.id = any($1) and h.ended_at is null and c.archived_at is null and v.revoked_at is null and v.not_after > now()
			order by v.id`, ids)
		if err != nil {
			return err
		}
		failures, current := map[certctl.ID]int{}, []certctl.ID{}
		var id certctl.ID
		var n int
		if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error {
			failures[id], current = n, append(current, id)
			return nil
		}); err != nil {
			return err
		}
		if err := t.put(ctx, `delete from due where kind = $1 and id = any($2) and id <> all($3)`, dueRenewalInfo, ids, current); err != nil {
			return err
		}
		versions, err := t.versions(ctx, current)
		if err != nil {
			return err
		}
		issuers := map[certctl.ID]bool{}
		for _, v := range versions {
			issuers[v.Issuer] = true
		}
		known, sealed, err := t.issuersWithSecrets(ctx, keysOf(issuers))
		jobs = make([]certctl.RenewalInfoJob, len(versions))
		for i, v := range versions {
			jobs[i] = certctl.RenewalInfoJob{Version: v, Issuer: known[v.Issuer], Sealed: sealed[v.Issuer], Failures: failures[v.ID]}
		}
		return err
	})
	return jobs, err
}

// advised is a holder's newest version with what its CA says of it.
type advised struct {
	version certctl.Version
	name    string
	team    string
	known   bool // the CA has been asked before
	advice  certctl.RenewalAdvice
}

// FinishRenewalInfo records what CAs have said, and moves renewals to when they
// would have them. A recall is acted on at once, and has the issuer's other leaves
// asked about without delay: it seldom comes alone.
func (s *Store) FinishRenewalInfo(ctx context.Context, ends []certctl.RenewalInfoEnd) error {
	byVersion, ids := make(map[certctl.ID]certctl.RenewalInfoEnd, len(ends)), make([]certctl.ID, len(ends))
	for i, end := range ends {
		byVersion[end.Version], ids[i] = end, end.Version
	}
	return s.write(ctx, certctl.SystemActor("worker"), func(t *tx) error {
		if err := t.lockCertificatesOf(ctx, `select certificate_id from version where id = any($1)`, ids); err != nil {
			return err
		}
		all, err := t.advisedVersions(ctx, ids)
		if err != nil {
			return err
		}
		recalling := map[certctl.ID]bool{}
		var due []dueRow
		var moved []*advised
		for i := range all {
			a := &all[i]
			before := a.advice
			end := byVersion[a.version.ID]
			a.advice = before.Heard(end, a.version.NotBefore, a.version.NotAfter, t.now)
			due = append(due, renewalInfoDue(a.version.ID, a.version.Issuer, end.NextAt))
			recalled := before.RecalledAt.IsZero() && !a.advice.RecalledAt.IsZero()
			if recalled {
				recalling[a.version.Issuer] = true
				t.renewalEvent(a, certctl.EventCertificateRecalled)
			}
			if at := a.advice.RenewAt(a.version.NotBefore, a.version.NotAfter, t.now); recalled || !at.Equal(a.version.RenewAt) && before.Window != a.advice.Window {
				a.version.RenewAt = at
				moved = append(moved, a)
				if !recalled && !at.IsZero() {
					t.renewalEvent(a, certctl.EventRenewalMoved)
				}
			}
		}
		if err := t.askOthers(ctx, sortedIDs(recalling)); err != nil {
			return err
		}
		if err := t.saveAdvice(ctx, all); err != nil {
			return err
		}
		if err := t.moveRenewals(ctx, moved); err != nil {
			return err
		}
		return t.due(ctx, due...)
	})
}

func (t *tx) renewalEvent(a *advised, name certctl.EventName) {
	t.event(a.team, certctl.AggregateCertificate, a.version.Certificate, name, map[string]any{
		"certificate": a.version.Certificate, "name": a.name, "holder": a.version.Holder, "version": a.version.ID, "serial": a.version.Serial,
		"issuer": a.version.Issuer, "window_start": a.advice.Window.Start, "window_end": a.advice.Window.End,
		"renew_at": a.advice.RenewAt(a.version.NotBefore, a.version.NotAfter, t.now),
	})
}

// advisedVersions reads those of the versions that are still their holders' newest.
func (t *tx) advisedVersions(ctx context.Context, ids []certctl.ID) ([]advised, error) {
	rows, err := t.Query(ctx, `
		select v.id, v.certificate_id, v.holder_id, v.issuer_id, v.serial, v.not_before, v.not_after, v.renew_at, c.name, team.name,
			i.version_id is not null, `+adviceColumns+`
		from version v join holder h on h.id = v.holder_id and h.version_id = v.id join certificate c on c.id = v.certificate_id
		join team on team.id = c.team_id left join renewal_info i on i.version_id = v.id
		where v.id = any($1) and h.ended_at is null order by v.id`, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (a advised, err error) {
		v := &a.version
		err = row.Scan(append([]any{&v.ID, &v.Certificate, &v.Holder, &v.Issuer, &v.Serial, &v.NotBefore, &v.NotAfter, &v.RenewAt, &a.name, &a.team,
			&a.known}, adviceFields(&a.advice)...)...)
		if !a.known {
			a.advice.PolicyAt = v.RenewAt
		}
		return a, err
	})
}

// adviceColumns are what adviceFields point at, of renewal_info i, which there may
// be none of.
const adviceColumns = `i.window_start, i.window_end, i.renew_at, coalesce(i.explanation_url, ''), i.policy_at, i.recalled_at, i.checked_at,
	coalesce(i.failures, 0), coalesce(i.message, '')`

func adviceFields(a *certctl.RenewalAdvice) []any {
	return []any{&a.Window.Start, &a.Window.End, &a.Window.At, &a.ExplanationURL, &a.PolicyAt, &a.RecalledAt, &a.CheckedAt, &a.Failures, &a.Message}
}

// askOthers has the CA of a recall asked about everything else that it issued.
func (t *tx) askOthers(ctx context.Context, issuers []certctl.ID) error {
	if len(issuers) == 0 {
		return nil
	}
	return t.put(ctx, `
		with first as (
			update issuer set recalled_at = now()
			where id = any($1) and (recalled_at is null or recalled_at < now() - interval '`+recallQuiet+`') returning id)
		update due set due_at = now() from first
		where due.verb = $2 and due.lane = first.id::text and due.kind = $3 and due.due_at > now()`,
		issuers, string(certctl.HintRenewalInfo), dueRenewalInfo)
}

func (t *tx) saveAdvice(ctx context.Context, all []advised) error {
	n := len(all)
	ids, urls, messages, failures := make([]certctl.ID, n), make([]string, n), make([]string, n), make([]int32, n)
	starts, ends, ats := make([]time.Time, n), make([]time.Time, n), make([]time.Time, n)
	policies, recalls, checks := make([]time.Time, n), make([]time.Time, n), make([]time.Time, n)
	for i, a := range all {
		ids[i], urls[i], messages[i], failures[i] = a.version.ID, a.advice.ExplanationURL, a.advice.Message, int32(a.advice.Failures) //nolint:gosec // a counter
		starts[i], ends[i], ats[i] = a.advice.Window.Start, a.advice.Window.End, a.advice.Window.At
		policies[i], recalls[i], checks[i] = a.advice.PolicyAt, a.advice.RecalledAt, a.advice.CheckedAt
	}
	return t.put(ctx, `
		insert into renewal_info (version_id, window_start, window_end, renew_at, policy_at, recalled_at, checked_at, explanation_url, failures, message)
		select * from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
			$7::timestamptz[], $8::text[], $9::int[], $10::text[])
		on conflict (version_id) do update set window_start = excluded.window_start, window_end = excluded.window_end,
			renew_at = excluded.renew_at, policy_at = excluded.policy_at, recalled_at = excluded.recalled_at, checked_at = excluded.checked_at,
			explanation_url = excluded.explanation_url, failures = excluded.failures, message = excluded.message`,
		ids, starts, ends, ats, policies, recalls, checks, urls, failures, messages)
}

// moveRenewals sets when versions are renewed.
func (t *tx) moveRenewals(ctx context.Context, moved []*advised) error {
	var ids, now []certctl.ID
	var times []time.Time
	var due []dueRow
	for _, a := range moved {
		v := a.version
		ids, times = append(ids, v.ID), append(times, v.RenewAt)
		if v.RenewAt.IsZero() {
			continue
		}
		due = append(due, holderDue(v.Holder, v.RenewAt, v.NotAfter, t.now))
		if !v.RenewAt.After(t.now) {
			now = append(now, v.Holder)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if err := t.put(ctx, `
		update version v set renew_at = new.at from unnest($1::uuid[], $2::timestamptz[]) as new(id, at) where v.id = new.id`, ids, times); err != nil {
		return err
	}
	t.hints(certctl.HintRenew, certctl.NoLane, now)
	return t.due(ctx, due...)
}

// advice is what CAs have said of versions, by version.
func (t *tx) advice(ctx context.Context, versions []certctl.ID) (map[certctl.ID]certctl.RenewalAdvice, error) {
	rows, err := t.Query(ctx, `select i.version_id, `+adviceColumns+` from renewal_info i where i.version_id = any($1)`, versions)
	if err != nil {
		return nil, err
	}
	known := map[certctl.ID]certctl.RenewalAdvice{}
	var id certctl.ID
	var a certctl.RenewalAdvice
	_, err = pgx.ForEachRow(rows, append([]any{&id}, adviceFields(&a)...), func() error {
		known[id] = a
		return nil
	})
	return known, err
}
