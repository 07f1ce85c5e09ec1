package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// manyVersions makes certificates with one leaf each, of the issuer "local", whose
// holders are clients; the first ones were issued before the others.
func (w *world) manyVersions(early, late int) (between time.Time) {
	w.t.Helper()
	w.exec(`insert into chain (digest, certs) values ('\x01', '{}')`)
	w.exec(`
		with made as (
			insert into certificate (id, team_id, name, dns, issuers, profile_id, policy_id, key_mode, status)
			select gen_random_uuid(), team.id, 'many' || n, array['many' || n || '.example.com'], array[$1::uuid], profile.id, renewal_policy.id, 'csr', 'active'
			from generate_series(1, $2) n, team, profile, renewal_policy where team.name = 'default' returning id, name),
		held as (insert into holder (id, certificate_id, kind, version_id) select gen_random_uuid(), id, 'client', gen_random_uuid() from made returning id, certificate_id, version_id)
		insert into version (id, certificate_id, holder_id, issuer_id, revision, serial, fingerprint, spki, algorithm, not_before, not_after, leaf, chain_digest, origin)
		select held.version_id, made.id, held.id, $1, 1, encode(sha256(made.name::bytea), 'hex'), sha256(made.name::bytea), sha256(('k' || made.name)::bytea), 'ecdsa-p256',
			now() - case when substr(made.name, 5)::int <= $3 then interval '20 days' else interval '5 days' end, now() + interval '70 days', '\x00', '\x01', 'imported'
		from made join held on held.certificate_id = made.id`, w.issuer.ID, early+late, early)
	return time.Now().Add(-10 * certctl.Day)
}

// over lets a rollout do steps until nothing is left for it to do at once.
func (w *world) over(id certctl.ID) certctl.Rollout {
	w.t.Helper()
	for range 1000 {
		if r := w.steps(id, 1); r.State.Final() || r.DueAt.After(time.Now().Add(5*time.Second)) {
			return r
		}
	}
	w.t.Fatal("the rollout never ends")
	return certctl.Rollout{}
}

// The number touched is the number selected, ten thousand.
func TestABulkRevocationTouchesAllThatIsSelected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const early, late = 10_000, 500
	request := certctl.RolloutRequest{
		Selection: certctl.Selection{Issuer: "local", IssuedBefore: w.manyVersions(early, late)}, Revoke: certctl.ReasonCessationOfOperation, DryRun: true,
	}
	if dry := w.roll(request); dry.Total != early || w.count(`select count(*) from revocation`) != 0 {
		t.Fatalf("dry run %+v", dry)
	}
	request.DryRun = false
	r := w.roll(request)
	if r.Total != early {
		t.Fatalf("selected %d", r.Total)
	}
	w.steps(r.ID, 3) // and the process dies
	r = w.over(r.ID)
	if r.State != certctl.RolloutCompleted || r.Waves[0].Done != early {
		t.Errorf("%+v", r)
	}
	for what, n := range map[string]int{
		`select count(*) from version where revoked_at is not null and revocation = 'cessationOfOperation'`:     early,
		`select count(*) from version where revoked_at is not null and not_before > now() - interval '10 days'`: 0,
		`select count(*) from revocation where state = 'requested'`:                                             early,
		`select count(*) from due where kind = 'revocation' and verb = 'revoke'`:                                early,
		`select count(*) from event where name = 'version_revoked'`:                                             early,
		`select count(*) from cert_order`:                                                                       0,
	} {
		if got := w.count(what); got != n {
			t.Errorf("%s: %d, want %d", what, got, n)
		}
	}
}

func TestABulkRevocationWaitsForItsWaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.fleet(3)
	w.issue(w.renewed(all[0])) // its first version is served nowhere
	r := w.roll(certctl.RolloutRequest{Selection: certctl.Selection{Issuer: "local"}, Revoke: certctl.ReasonSuperseded, Pace: certctl.RolloutPace{Canary: 1, Growth: 2}})
	if r.Total != 4 || r.Plan.Size() != 3 || r.Replace != certctl.ReplaceBefore {
		t.Fatalf("%+v", r)
	}
	r = w.steps(r.ID, 2)
	if n := w.count(`select count(*) from version where revoked_at is not null`); n != 1 {
		t.Errorf("%d revoked before anything is replaced", n)
	}
	if n := w.count(`select count(*) from revocation where state = 'waiting' and rollout_id = $1`, r.ID); n != 3 || len(w.bulkOrders()) != 1 {
		t.Errorf("%d wait, %d ordered", n, len(w.bulkOrders()))
	}
	replaced := w.count(`select 1 from rollout_item where state = 'ordered'`)
	w.issue(w.bulkOrders()[0])
	var old certctl.ID
	if err := w.Pool().QueryRow(w.ctx, `select version_id from rollout_item where state = 'ordered'`).Scan(&old); err != nil || replaced != 1 {
		t.Fatal(err)
	}
	if w.settle(old) != 1 || !w.revokedNow(old) {
		t.Error("not revoked although it is replaced")
	}
	r, err := w.CancelRollout(w.ctx, w.admin, r.ID)
	if err != nil || w.count(`select count(*) from revocation where state = 'cancelled'`) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if n := w.count(`select count(*) from version where revoked_at is not null`); n != 2 {
		t.Errorf("%d revoked", n)
	}
	w.consistent()
}

// What has lost its key is revoked and replaced at once, with every other version
// of the same key, and waits for no wave.
func TestABulkCompromiseWaitsForNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.fleet(4)
	w.exec(`update version set spki = (select spki from version where certificate_id = $1) where certificate_id = $2`, all[0].ID, all[3].ID)
	r := w.roll(certctl.RolloutRequest{
		Selection: certctl.Selection{Serials: []certctl.Serial{w.holders(all[0])[0].Version.Serial, w.holders(all[1])[0].Version.Serial}},
		Revoke:    certctl.ReasonKeyCompromise,
	})
	if r.Total != 3 || w.count(`select count(*) from blocked_key`) != 2 {
		t.Fatalf("%+v", r)
	}
	w.steps(r.ID, 2)
	if n := w.count(`select count(*) from version where revoked_at is not null`); n != 3 {
		t.Errorf("%d revoked", n)
	}
	if open := w.bulkOrders(); len(open) != 3 || open[0].Urgency != certctl.UrgencyNow {
		t.Errorf("%+v", open)
	}
	if w.get(all[2].ID).Status == certctl.StatusRevoked {
		t.Error("one that was not selected is revoked")
	}
	w.consistent()
}

func TestWhoMayRevokeInBulk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(1)
	w.team("mail")
	request := certctl.RolloutRequest{Selection: certctl.Selection{IssuedBefore: time.Now()}, Revoke: certctl.ReasonUnspecified}
	_, err := w.CreateRollout(w.ctx, w.member("default", certctl.RoleViewer), request, certctl.Idempotency{})
	refused(t, err, certctl.Denied)
	_, err = w.CreateRollout(w.ctx, w.member("mail", certctl.RoleAdmin), request, certctl.Idempotency{})
	refused(t, err, certctl.Conflict, "nothing")
	request.Selection = certctl.Selection{}
	_, err = w.CreateRollout(w.ctx, w.admin, request, certctl.Idempotency{})
	refused(t, err, certctl.Invalid, "issued_before")
	if n := w.count(`select count(*) from rollout`); n != 0 {
		t.Errorf("%d rollouts", n)
	}
}
