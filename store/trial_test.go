package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// anywhere is where any issuer's certificates are tested.
func anywhere(i certctl.Issuer) (certctl.Issuer, string, error) {
	return i, "https://staging.example.com/directory", nil
}

// tested has a certificate tested that is not made yet.
func (w *world) tested(name string, issuer string) (certctl.Trial, error) {
	asked := request(name)
	asked.Issuers = []string{issuer}
	return w.StartTrial(w.ctx, w.admin, certctl.TrialRequest{New: &asked}, anywhere)
}

// end ends a test, and has it cleaned up after.
func (w *world) end(trial certctl.Trial, clean bool) {
	w.t.Helper()
	take := func() {
		if jobs, err := w.TrialJobs(w.ctx, []certctl.ID{trial.ID}, "worker", time.Minute); err != nil || len(jobs) != 1 {
			w.t.Fatalf("%d jobs, %v", len(jobs), err)
		}
	}
	take()
	if err := w.FinishTrial(w.ctx, certctl.TrialEnd{ID: trial.ID, Worker: "worker", Outcome: certctl.TrialPassed}); err != nil {
		w.t.Fatal(err)
	}
	if clean {
		take()
		if err := w.CleanTrial(w.ctx, trial.ID, "worker", nil, w.moment()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// Nobody works for an issuer that is archived: it stays until its tests have ended
// and nothing of them is left.
func TestAnIssuerIsNotArchivedWhileItsTestsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trial, err := w.tested("shop", "local")
	if err != nil {
		t.Fatal(err)
	}
	refused := func() {
		t.Helper()
		err := w.ArchiveIssuer(w.ctx, w.admin, "local")
		if certctl.ErrorCode(err) != certctl.Conflict || !strings.Contains(certctl.ErrorMessage(err), "1 tests of certificates run at the issuer local") {
			t.Fatalf("%v", err)
		}
	}
	refused()
	w.end(trial, false)
	refused()
	if err := w.CleanTrial(w.ctx, trial.ID, "worker", nil, w.moment()); certctl.ErrorCode(err) != certctl.NotFound {
		t.Fatalf("one that nobody has taken on was cleaned: %v", err)
	}
	if _, err := w.TrialJobs(w.ctx, []certctl.ID{trial.ID}, "worker", time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := w.CleanTrial(w.ctx, trial.ID, "worker", nil, w.moment()); err != nil {
		t.Fatal(err)
	}
	if err := w.ArchiveIssuer(w.ctx, w.admin, "local"); err != nil {
		t.Fatal(err)
	}
}

// Of a certificate that is not made yet, events name none.
func TestEventsOfATestNameTheCertificateIfThereIsOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	trial, err := w.tested("shop", "local")
	if err != nil {
		t.Fatal(err)
	}
	w.end(trial, true)
	if n := w.count(`select count(*) from event where object_id = $1 and not convert_from(body, 'UTF8')::jsonb->'data' ? 'certificate' and convert_from(body, 'UTF8')::jsonb->'data'->>'name' = 'shop'`, trial.ID); n != 2 {
		t.Errorf("%d events without a certificate", n)
	}
	c := w.submit(request("mail"))
	if _, err := w.StartTrial(w.ctx, w.admin, certctl.TrialRequest{Certificate: c.ID}, anywhere); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from event where name = 'certificate_test_requested' and convert_from(body, 'UTF8')::jsonb->'data'->>'certificate' = $1`, c.ID.String()); n != 1 {
		t.Errorf("%d events with a certificate", n)
	}
}

// Tests of certificates that are not made yet are bounded while they run, and go
// once they have served.
func TestTestsDoNotGrowWithoutBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, err := w.tested("old", "local")
	if err != nil {
		t.Fatal(err)
	}
	w.end(old, true)
	left, err := w.tested("left", "local")
	if err != nil {
		t.Fatal(err)
	}
	w.end(left, false)
	for n := range certctl.MaxRunningTrials {
		if _, err := w.tested(fmt.Sprint("new", n), "local"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.tested("more", "local"); certctl.ErrorCode(err) != certctl.Conflict || !strings.Contains(certctl.ErrorMessage(err), "50 tests of the team default run already") {
		t.Errorf("one more: %v", err)
	}
	if n := w.count(`select count(*) from trial`); n != certctl.MaxRunningTrials+2 {
		t.Errorf("%d tests are recorded", n)
	}
	if n := w.sweepKind(certctl.RetainTrials, w.moment().Add(-certctl.Day)); n != 0 {
		t.Errorf("%d swept that are kept still", n)
	}
	if n := w.sweepKind(certctl.RetainTrials, w.moment()); n != 1 {
		t.Errorf("%d swept", n)
	}
	if n := w.count(`select count(*) from trial where id = $1`, old.ID); n != 0 {
		t.Error("the one that has served is there still")
	}
}
