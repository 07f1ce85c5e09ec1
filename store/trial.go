package store

import (
	"context"
	"slices"

	"github.com/certctl/certctl"
	"github.com/jackc/pgx/v5"
)

// dueTrial is the kind of rows in the table due for tests: those that run, and
// those that have left something behind.
const dueTrial = "trial"

func trialDue(id, issuer certctl.ID) dueRow {
	return dueRow{kind: dueTrial, id: id, verb: certctl.HintTrial, lane: issuer.String(), urgency: certctl.UrgencyNow}
}

// tried is what a test is about.
type tried struct {
	certificate certctl.ID
	name        string
	teamID      certctl.ID
	team        string
	names       certctl.Names
	profile     certctl.Profile
	issuers     []certctl.ID
	agents      []certctl.ID
}

// StartTrial has a certificate tested, or one that is not made yet, where staging
// says. While a test of a certificate runs, another request gets that one.
func (s *Store) StartTrial(ctx context.Context, actor certctl.Actor, request certctl.TrialRequest, staging certctl.Staging) (certctl.Trial, error) {
	var trial certctl.Trial
	err := s.write(ctx, actor, func(t *tx) error {
		about, err := t.triedOf(ctx, request)
		if err != nil {
			return err
		}
		issuer, err := t.askedIssuer(ctx, about, request.Issuer)
		if err != nil {
			return err
		}
		_, directory, err := staging(issuer)
		if err != nil {
			return err
		}
		id := certctl.NewID(t.now)
		err = t.QueryRow(ctx, `
			insert into trial (id, certificate_id, name, team_id, issuer_id, requester_id, directory, names, profile, agents)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			on conflict (certificate_id) where outcome = 'running' do update set wait = trial.wait returning id`,
			id, about.certificate, about.name, about.teamID, issuer.ID, t.actor.Principal.ID, directory, about.names, about.profile,
			some(about.agents)).Scan(&trial.ID)
		if err != nil {
			return err
		}
		if trial.ID == id {
			if err := t.trialsLeft(ctx, about); err != nil {
				return err
			}
			if err := t.begunTrial(ctx, about, id, issuer.ID); err != nil {
				return err
			}
		}
		trial, err = t.trial(ctx, trial.ID)
		return err
	})
	return trial, err
}

// askedIssuer returns the one of a certificate's issuers that a test asks, and keeps
// it from being archived. It may be of another team than the actor: whoever may have
// the certificate issued may have it tested.
func (t *tx) askedIssuer(ctx context.Context, about tried, ref string) (certctl.Issuer, error) {
	if len(about.issuers) == 0 {
		return certctl.Issuer{}, certctl.Errorf(certctl.Conflict, "%s has no issuer: it is only watched", about.name).WithRemedy("give it an issuer")
	}
	if err := t.put(ctx, `select from issuer where id = any($1) for key share`, about.issuers); err != nil {
		return certctl.Issuer{}, err
	}
	all, err := t.issuers(ctx, about.issuers)
	if err != nil {
		return certctl.Issuer{}, err
	}
	at := slices.IndexFunc(all, func(i certctl.Issuer) bool { return ref == "" || canonicalRef(ref) == i.ID.String() || ref == i.Name })
	switch {
	case at < 0:
		return certctl.Issuer{}, certctl.InvalidField("/issuer", "is none of the certificate's issuers")
	case !all[at].ArchivedAt.IsZero():
		return certctl.Issuer{}, certctl.Errorf(certctl.Conflict, "the issuer %s is archived", all[at].Name)
	case all[at].Paused:
		return certctl.Issuer{}, certctl.Errorf(certctl.Conflict, "the issuer %s is paused", all[at].Name).
			WithRemedy("resume it, or test at another issuer of the certificate")
	}
	return all[at], nil
}

// triedOf finds what is to be tested, and authorises the actor for it.
func (t *tx) triedOf(ctx context.Context, request certctl.TrialRequest) (tried, error) {
	if request.New != nil {
		return t.triedNew(ctx, *request.New)
	}
	f, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbIssue, request.Certificate.String())
	if err != nil {
		return tried{}, err
	}
	if f.archived {
		return tried{}, certctl.Errorf(certctl.Conflict, "%s is archived", f.name)
	}
	c, err := t.certificate(ctx, f.id)
	if err != nil {
		return tried{}, err
	}
	about := tried{certificate: f.id, name: f.name, teamID: f.teamID, team: f.team, names: c.Names}
	for _, issuer := range c.Issuers {
		about.issuers = append(about.issuers, issuer.ID)
	}
	profiles, err := t.profilesByID(ctx, []certctl.ID{c.Profile.ID})
	if err != nil {
		return about, err
	}
	about.profile = profiles[c.Profile.ID]
	return about, t.QueryRow(ctx, `
		select array(select distinct target.agent_id from binding b join target on target.id = b.target_id
			where b.certificate_id = $1 and b.unbound_at is null)`, f.id).Scan(&about.agents)
}

// triedNew checks a request for a certificate as if it were to be made.
func (t *tx) triedNew(ctx context.Context, request certctl.CertificateRequest) (tried, error) {
	sub := &submission{CertificateRequest: request, id: certctl.NewID(t.now)}
	if err := t.planSubmissions(ctx, []*submission{sub}); err != nil {
		return tried{}, err
	}
	if sub.err != nil {
		return tried{}, sub.err
	}
	about := tried{name: sub.Name, teamID: sub.teamID, team: sub.team, names: sub.Names, profile: sub.profile.Profile}
	for _, issuer := range sub.issuers {
		about.issuers = append(about.issuers, issuer.id)
	}
	for _, b := range sub.bindings {
		about.agents = append(about.agents, b.target.agent)
	}
	return about, nil
}

// trialsLeft refuses a new test, which is recorded already, where its team has as
// many as may run at once.
func (t *tx) trialsLeft(ctx context.Context, about tried) error {
	if err := t.put(ctx, `select pg_advisory_xact_lock($1)`, lockKey("trials/"+about.teamID.String())); err != nil {
		return err
	}
	var running int
	err := t.QueryRow(ctx, `select count(*) from trial where team_id = $1 and outcome = 'running'`, about.teamID).Scan(&running)
	if err == nil && running > certctl.MaxRunningTrials {
		err = certctl.Errorf(certctl.Conflict, "%d tests of the team %s run already", certctl.MaxRunningTrials, about.team).
			WithRemedy("wait for one of them to end, which takes %s at most while a worker runs", certctl.Duration(certctl.TrialPatience))
	}
	return err
}

// begunTrial announces a new test, and forgets the oldest ones of its certificate.
func (t *tx) begunTrial(ctx context.Context, about tried, id, issuer certctl.ID) error {
	if err := t.put(ctx, `
		delete from trial old where old.certificate_id = $1 and old.outcome <> 'running'
			and not exists (select from due where kind = 'trial' and id = old.id)
			and old.id not in (select id from trial where certificate_id = $1 order by id desc limit $2)`,
		about.certificate, certctl.MaxTrials); err != nil {
		return err
	}
	object := about.certificate
	if object.IsZero() {
		object = id
	}
	data := map[string]any{"name": about.name, "test": id, "issuer": issuer}
	ofTested(data, about.certificate)
	t.event(about.team, certctl.AggregateCertificate, object, certctl.EventTestRequested, data)
	t.hint(certctl.HintTrial, issuer.String(), id)
	due := trialDue(id, issuer)
	due.at = t.now.Add(agentReminder)
	return t.due(ctx, due)
}

// trialColumns are what scanTrial reads, of trial x, issuer i, team.
const trialColumns = `x.id, x.certificate_id, x.name, team.name, i.id, i.name, x.directory, x.names, x.outcome, x.steps, x.wait, x.error_code,
	x.message, x.created_at, x.ended_at`

const trialTables = `trial x join issuer i on i.id = x.issuer_id join team on team.id = x.team_id`

func scanTrial(row pgx.CollectableRow) (x certctl.Trial, err error) {
	err = row.Scan(&x.ID, &x.Certificate.ID, &x.Name, &x.Team, &x.Issuer.ID, &x.Issuer.Name, &x.Directory, &x.Names, &x.Outcome, &x.Steps, &x.Wait,
		&x.ErrorCode, &x.Message, &x.CreatedAt, &x.EndedAt)
	if !x.Certificate.ID.IsZero() {
		x.Certificate.Name = x.Name
	}
	return x, err
}

func (t *tx) trials(ctx context.Context, where string, args ...any) ([]certctl.Trial, error) {
	rows, err := t.Query(ctx, `select `+trialColumns+` from `+trialTables+` where `+where+` order by x.id desc`, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanTrial)
}

func (t *tx) trial(ctx context.Context, id certctl.ID) (certctl.Trial, error) {
	all, err := t.trials(ctx, `x.id = $1`, id)
	if err == nil && len(all) == 0 {
		err = certctl.Errorf(certctl.NotFound, "there is no test %s", id)
	}
	if err != nil {
		return certctl.Trial{}, err
	}
	return all[0], nil
}

// GetTrial returns one test.
func (s *Store) GetTrial(ctx context.Context, actor certctl.Actor, id certctl.ID) (certctl.Trial, error) {
	var trial certctl.Trial
	err := s.readAs(ctx, actor, func(t *tx) (err error) {
		if trial, err = t.trial(ctx, id); err != nil {
			return err
		}
		if !trial.Certificate.ID.IsZero() {
			return t.ofCertificate(ctx, "test", id, trial.Certificate.ID)
		}
		if own := t.actor.Principal.Team; own != "" && own != trial.Team {
			return certctl.Errorf(certctl.NotFound, "there is no test %s", id)
		}
		return certctl.Authorize(t.actor.Principal, certctl.VerbRead, certctl.Object{Kind: certctl.ObjectCertificate, Team: trial.Team})
	})
	if err != nil {
		return certctl.Trial{}, err
	}
	return trial, nil
}

// ListTrials returns the tests of a certificate that are kept, newest first.
func (s *Store) ListTrials(ctx context.Context, actor certctl.Actor, ref string) ([]certctl.Trial, error) {
	var trials []certctl.Trial
	err := s.readAs(ctx, actor, func(t *tx) error {
		f, err := t.one(ctx, certctl.ObjectCertificate, certctl.VerbRead, ref)
		if err != nil {
			return err
		}
		trials, err = t.trials(ctx, `x.certificate_id = $1`, f.id)
		return err
	})
	return trials, err
}
