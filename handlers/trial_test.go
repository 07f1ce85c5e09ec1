package handlers_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/api/challenge"
	"github.com/certctl/certctl/handlers"
	"github.com/certctl/certctl/handlers/issuer"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
	"github.com/certctl/certctl/store"
)

// stage is an ACME world whose issuer has a staging server.
type stage struct {
	*acmeWorld
	staging *acmetest.Server
}

func newStage(t *testing.T, o acmetest.Options, change ...func(*acme.Settings)) *stage {
	t.Helper()
	s := &stage{}
	s.acmeWorld = newACME(t, acmetest.Options{}, append(change, func(settings *acme.Settings) {
		o.Resolver = settings.Servers[0]
		s.staging = acmetest.Start(t, o)
		settings.Staging = s.staging.Directory
		settings.CABundle += s.staging.CABundle
		settings.Budgets = acme.Budgets{Orders: &acme.Budget{Count: 5, Per: "1h"}, Failures: &acme.Budget{Count: 5, Per: "1h"}}
	})...)
	server := &http.Server{Handler: challenge.Handler(s.Store, func(context.Context) string { return testInstallation }, testLog(t)), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(s.staging.Challenges) }()
	t.Cleanup(func() { _ = server.Close() })
	return s
}

// shaky are the tests' store of a worker that dies after so many records.
type shaky struct {
	store.Trials
	left atomic.Int64
}

func (s *shaky) SaveAttemptState(ctx context.Context, trial certctl.ID, n int, worker, url string, state []byte) error {
	if err := s.Trials.SaveAttemptState(ctx, trial, n, worker, url, state); err != nil {
		return err
	}
	if s.left.Add(-1) <= 0 {
		return errDead
	}
	return nil
}

// FinishTrial is not heard of by the dead.
func (s *shaky) FinishTrial(ctx context.Context, end certctl.TrialEnd) error {
	if s.left.Load() <= 0 {
		return errDead
	}
	return s.Trials.FinishTrial(ctx, end)
}

// tester is a worker for tests that dies after so many steps.
func (s *stage) tester(name string, steps int64) *handlers.Trials {
	s.t.Helper()
	trials := &shaky{Trials: s.Trials()}
	trials.left.Store(steps)
	driver := acme.New(acme.Config{Store: trials, Secrets: s.secrets})
	open := func(_ context.Context, original certctl.Issuer, sealed []byte) (handlers.CA, error) {
		changed, _, err := issuer.Kinds{}.Staging(original)
		if err != nil {
			return nil, err
		}
		return driver.Open(changed, sealed)
	}
	return handlers.NewTrials(trials, open, name, testLog(s.t))
}

func (s *stage) start(request certctl.TrialRequest) certctl.Trial {
	s.t.Helper()
	trial, err := s.StartTrial(s.ctx, s.admin, request, issuer.Kinds{}.Staging)
	s.must(err)
	return trial
}

// ended works on a test until it has ended and nothing of it is due.
func (s *stage) ended(trial certctl.Trial, worker func() *handlers.Trials) certctl.Trial {
	s.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for s.count(`select count(*) from due where kind = 'trial' and id = $1`, trial.ID) > 0 {
		select {
		case <-deadline.C:
			s.t.Fatalf("not ended: %+v", s.read(trial))
		case <-ticker.C:
			err := worker().Handle(s.ctx, certctl.Hint{Verb: certctl.HintTrial, Lane: s.ca.ID.String(), IDs: []certctl.ID{trial.ID}})
			if err != nil && !errors.Is(err, errDead) {
				s.t.Fatal(err)
			}
		}
	}
	return s.read(trial)
}

func (s *stage) read(trial certctl.Trial) certctl.Trial {
	s.t.Helper()
	read, err := s.GetTrial(s.ctx, s.admin, trial.ID)
	s.must(err)
	return read
}

// spotless fails the test where one of a certificate's has changed something, or
// left something behind.
func (s *stage) spotless() {
	s.t.Helper()
	for what, query := range map[string]string{
		"leaves": `select count(*) from version`, "attempts": `select count(*) from attempt`, "spent": `select count(*) from external_use`,
		"tokens": `select count(*) from challenge_token`, "proofs": `select count(*) from node_proof`, "orders at CAs": `select count(*) from external_order`,
	} {
		if n := s.count(query); n != 0 {
			s.t.Errorf("%d %s", n, what)
		}
	}
	if left := s.pebble.DNS.TXT(); len(left) != 0 {
		s.t.Errorf("TXT records are left: %v", left)
	}
	if n := s.pebble.Count(acmetest.NewOrder) + s.pebble.Accounts(); n != 0 {
		s.t.Errorf("the CA itself was asked")
	}
	s.consistent()
}

// A test goes all the way at the staging server, whoever dies meanwhile, and
// changes nothing.
func TestACertificateIsTestedWithoutATrace(t *testing.T) {
	t.Parallel()
	s := newStage(t, acmetest.Options{NonceReject: 20})
	c, _ := s.orderFor("shop", "shop.example.com", "*.shop.example.org")
	before := s.order(c)
	trial := s.start(certctl.TrialRequest{Certificate: c.ID})
	if again := s.start(certctl.TrialRequest{Certificate: c.ID}); again.ID != trial.ID {
		t.Error("two tests of one certificate run at once")
	}
	deaths := 0
	done := s.ended(trial, func() *handlers.Trials {
		deaths++
		_, err := s.Pool().Exec(s.ctx, `update trial set lease_until = now() - interval '1 second' where lease_until is not null`)
		s.must(err)
		return s.tester("tester", 2)
	})
	if done.Outcome != certctl.TrialPassed || done.EndedAt.IsZero() {
		t.Fatalf("%s: %s", done.Outcome, done.Message)
	}
	var steps []string
	for _, step := range done.Steps {
		steps = append(steps, step.Step)
	}
	if want := []string{"order", "prove", "present", "spread", "accept", "validate", "clean", "finalize", "download"}; !slices.Equal(steps, want) {
		t.Errorf("steps %v", steps)
	}
	if n := s.staging.Count(acmetest.NewOrder); n != 1 || s.staging.Count(acmetest.Cert) == 0 || deaths < 4 {
		t.Errorf("%d orders, %d downloads, %d workers", n, s.staging.Count(acmetest.Cert), deaths)
	}
	if after := s.order(c); after.State != before.State || !after.UpdatedAt.Equal(before.UpdatedAt) {
		t.Errorf("the order has changed: %+v", after)
	}
	if n := s.count(`select count(*) from event where name in ('certificate_test_requested', 'certificate_tested') and object_id = $1`, c.ID); n != 2 {
		t.Errorf("%d events", n)
	}
	s.spotless()
	// Another one may follow, and so many are kept.
	for range certctl.MaxTrials + 2 {
		s.start(certctl.TrialRequest{Certificate: c.ID})
		_, err := s.Pool().Exec(s.ctx, `update trial set outcome = 'failed', ended_at = now()`)
		s.must(err)
		_, err = s.Pool().Exec(s.ctx, `delete from due where kind = 'trial'`)
		s.must(err)
	}
	if all, err := s.ListTrials(s.ctx, s.admin, "shop"); err != nil || len(all) > certctl.MaxTrials {
		t.Errorf("%d tests are kept, %v", len(all), err)
	}
}

// What a real order would wait for a person for ends a test, in the CA's words, and
// what the test has written is removed. The certificate need not be there.
func TestATestThatFailsSaysWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, acmetest.Options{Blocked: []string{"blocked.example.com"}})
	worker := s.tester("tester", immortal)
	ask := func(names ...string) certctl.Trial {
		return s.ended(s.start(certctl.TrialRequest{New: &certctl.CertificateRequest{
			Name: "shop", Issuers: []string{"pebble"}, Names: certctl.Names{DNS: names},
		}}), func() *handlers.Trials { return worker })
	}
	refused := ask("blocked.example.com")
	if refused.Outcome != certctl.TrialFailed || refused.ErrorCode != "acme_rejectedIdentifier" || !strings.Contains(refused.Message, "remove it, or use another issuer") {
		t.Errorf("%+v", refused)
	}
	s.must(s.staging.Challenges.Close())
	unreachable := ask("shop.example.com", "*.shop.example.org")
	if unreachable.Outcome != certctl.TrialFailed || unreachable.ErrorCode != "acme_connection" || !strings.Contains(unreachable.Message, "shop.example.com could not be validated by http-01") {
		t.Errorf("%+v", unreachable)
	}
	if n := s.count(`select count(*) from event where name = 'certificate_test_failed'`); n != 2 {
		t.Errorf("%d events", n)
	}
	if n := s.count(`select count(*) from certificate where name = 'shop'`); n != 0 {
		t.Error("the certificate was made")
	}
	s.spotless()
}

// The agents that would answer the CA answer the staging server.
func TestAgentsAnswerForATest(t *testing.T) {
	t.Parallel()
	s := newStage(t, acmetest.Options{}, func(settings *acme.Settings) {
		settings.Rules = []acme.Rule{{Type: "tls-alpn-01", By: &certctl.Answerers{Bound: true}}}
	})
	edge := s.proverFor(s.staging, "edge")
	edge.target("web")
	worker := s.tester("tester", immortal)
	trial := s.start(certctl.TrialRequest{New: &certctl.CertificateRequest{
		Name: "shop", Issuers: []string{"pebble"}, Names: certctl.Names{DNS: []string{"shop.example.com"}}, Bindings: []certctl.BindingRequest{{Target: "web"}},
	}})
	hint := certctl.Hint{Verb: certctl.HintTrial, IDs: []certctl.ID{trial.ID}}
	s.must(worker.Handle(s.ctx, hint))
	if waits := s.read(trial); waits.Outcome != certctl.TrialRunning || waits.Wait != certctl.WaitNodes || !strings.Contains(waits.Message, "edge") {
		t.Fatalf("%+v", waits)
	}
	done := s.ended(trial, func() *handlers.Trials {
		edge.works()
		return worker
	})
	if done.Outcome != certctl.TrialPassed {
		t.Errorf("%s: %s", done.Outcome, done.Message)
	}
	edge.works()
	edge.works()
	if len(edge.held) != 0 {
		t.Errorf("held still: %v", edge.held)
	}
	s.spotless()
}

// A node that never answers ends a test in time.
func TestATestWaitsOnlySoLong(t *testing.T) {
	t.Parallel()
	s := newStage(t, acmetest.Options{}, func(settings *acme.Settings) {
		settings.Rules = []acme.Rule{{Type: "tls-alpn-01", By: &certctl.Answerers{Names: []string{"edge"}}}}
	})
	s.newNode("edge")
	worker := s.tester("tester", immortal)
	trial := s.start(certctl.TrialRequest{New: &certctl.CertificateRequest{
		Name: "shop", Issuers: []string{"pebble"}, Names: certctl.Names{DNS: []string{"shop.example.com"}},
	}})
	s.must(worker.Handle(s.ctx, certctl.Hint{Verb: certctl.HintTrial, IDs: []certctl.ID{trial.ID}}))
	_, err := s.Pool().Exec(s.ctx, `update trial set created_at = created_at - interval '15 minutes'`)
	s.must(err)
	done := s.ended(trial, func() *handlers.Trials { return worker })
	if done.Outcome != certctl.TrialFailed || done.ErrorCode != "timeout" || !strings.Contains(done.Message, "edge has never been on line") {
		t.Errorf("%+v", done)
	}
	s.spotless()
}

// stubborn is a CA that never gets as far as asking.
type stubborn struct {
	prepare func(ctx context.Context) error
}

func (s stubborn) Prepare(ctx context.Context, _ certctl.IssueJob, _ time.Time) (certctl.Asking, error) {
	return certctl.Asking{}, s.prepare(ctx)
}

// started are tests of certificates that are not made yet, one for each name.
func (s *stage) started(names ...string) []certctl.ID {
	s.t.Helper()
	var ids []certctl.ID
	for _, name := range names {
		ids = append(ids, s.start(certctl.TrialRequest{New: &certctl.CertificateRequest{
			Name: name, Issuers: []string{"pebble"}, Names: certctl.Names{DNS: []string{name + ".example.com"}},
		}}).ID)
	}
	return ids
}

// Tests that a hint names together do not wait for each other, and the end of one
// is recorded although another one's is not.
func TestTestsAreWorkedOnAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := newStage(t, acmetest.Options{})
	ids := s.started("a", "b", "c")
	var arrived atomic.Int64
	all := make(chan struct{})
	ca := stubborn{func(ctx context.Context) error {
		n := arrived.Add(1)
		if n == int64(len(ids)) {
			close(all)
		}
		select {
		case <-all:
		case <-ctx.Done():
		}
		if n == 1 {
			return errDead // as the database would be away
		}
		return &certctl.IssueError{Kind: certctl.FailRefused, Code: "refused", Message: "no"}
	}}
	open := func(context.Context, certctl.Issuer, []byte) (handlers.CA, error) { return ca, nil }
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	err := handlers.NewTrials(s.Trials(), open, "tester", testLog(t)).Handle(ctx, certctl.Hint{Verb: certctl.HintTrial, IDs: ids})
	if !errors.Is(err, errDead) {
		t.Errorf("the error of one is %v", err)
	}
	if n := s.count(`select count(*) from trial where outcome = 'failed' and error_code = 'refused'`); n != len(ids)-1 {
		t.Errorf("%d of %d were recorded", n, len(ids)-1)
	}
	if n := s.count(`select count(*) from trial where outcome = 'running'`); n != 1 {
		t.Errorf("what could not be recorded is an outcome")
	}
}

// A test of which nothing can be recorded is given up in time, too.
func TestATestIsNotRepeatedWithoutEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t, acmetest.Options{})
	ids := s.started("a")
	ca := stubborn{func(context.Context) error { return certctl.Errorf(certctl.Unavailable, "the database is away") }}
	open := func(context.Context, certctl.Issuer, []byte) (handlers.CA, error) { return ca, nil }
	worker := handlers.NewTrials(s.Trials(), open, "tester", testLog(t))
	hint := certctl.Hint{Verb: certctl.HintTrial, IDs: ids}
	if err := worker.Handle(s.ctx, hint); certctl.ErrorCode(err) != certctl.Unavailable {
		t.Fatalf("%v", err)
	}
	_, err := s.Pool().Exec(s.ctx, `update trial set created_at = created_at - interval '16 minutes', lease_until = now() - interval '1 second'`)
	s.must(err)
	s.must(worker.Handle(s.ctx, hint))
	done, err := s.GetTrial(s.ctx, s.admin, ids[0])
	s.must(err)
	if done.Outcome != certctl.TrialFailed || done.ErrorCode != "timeout" || !strings.Contains(done.Message, "not done within 15m") {
		t.Errorf("%+v", done)
	}
	if n := s.count(`select count(*) from due where kind = 'trial'`); n != 0 {
		t.Errorf("%d are due still", n)
	}
}

// What has no staging directory is refused with what to do.
func TestIssuersWithoutAStagingDirectoryAreRefused(t *testing.T) {
	t.Parallel()
	kinds := issuer.Kinds{}
	if _, _, err := kinds.Staging(certctl.Issuer{Name: "local", Kind: certctl.IssuerLocal}); certctl.ErrorCode(err) != certctl.Conflict ||
		!strings.Contains(certctl.ErrorMessage(err), "only what ACME CAs are asked for can be tested") {
		t.Errorf("local: %v", err)
	}
	of := func(settings string) (certctl.Issuer, string, error) {
		return kinds.Staging(certctl.Issuer{Name: "ca", Kind: acme.Kind, Settings: []byte(settings)})
	}
	if _, _, err := of(`{"directory": "zerossl", "terms_of_service_agreed": true}`); certctl.ErrorCode(err) != certctl.Conflict ||
		!strings.Contains(certctl.ErrorMessage(err), "the issuer ca names no directory where certificates can be tested") {
		t.Errorf("zerossl: %v", err)
	}
	if _, directory, err := of(`{"directory": "letsencrypt", "terms_of_service_agreed": true}`); err != nil || directory != "https://acme-staging-v02.api.letsencrypt.org/directory" {
		t.Errorf("letsencrypt: %s, %v", directory, err)
	}
	changed, directory, err := of(`{"directory": "zerossl", "terms_of_service_agreed": true, "staging_directory": "https://test.example.com/acme", "eab_service": "https://example.com/eab", "profile": "x"}`)
	if err != nil || directory != "https://test.example.com/acme" || !strings.Contains(string(changed.Settings), `"profile":"x"`) ||
		strings.Contains(string(changed.Settings), "eab_service") {
		t.Errorf("named: %s, %s, %v", directory, changed.Settings, err)
	}
	if err := acme.Validate([]byte(`{"directory": "zerossl", "terms_of_service_agreed": true, "staging_directory": "http://test.example.com"}`)); err == nil {
		t.Error("a staging directory without TLS is taken")
	}
	// The CA itself would count the tests, whatever its URL looks like.
	for _, same := range []string{"zerossl", "https://acme.zerossl.com/v2/DV90", "https://ACME.zerossl.com:443/v2/DV90/"} {
		err := acme.Validate([]byte(`{"directory": "zerossl", "terms_of_service_agreed": true, "staging_directory": "` + same + `"}`))
		if certctl.ErrorCode(err) != certctl.Invalid || !strings.Contains(certctl.ErrorMessage(err), "/settings/staging_directory: is the directory itself") {
			t.Errorf("%s as its own staging directory: %v", same, err)
		}
	}
	if err := acme.Validate([]byte(`{"directory": "letsencrypt-staging", "terms_of_service_agreed": true, "staging_directory": "letsencrypt-staging"}`)); err != nil {
		t.Errorf("a staging directory: %v", err)
	}
}
