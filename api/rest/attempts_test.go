package rest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// An order shows its attempts, and so does the status of its certificate.
func TestAttemptsAreShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var made struct {
		ID certctl.ID `json:"id"`
	}
	w.as(http.MethodPost, "/api/v1/certificates", map[string]any{"name": "mail", "issuer": "local", "csr": csr(t, "mail.example.com")}).
		want(http.StatusCreated).into(&made)
	type attempt struct {
		N         int       `json:"n"`
		Worker    string    `json:"worker"`
		Issuer    string    `json:"issuer"`
		Serial    string    `json:"serial"`
		SPKI      string    `json:"spki_sha256"`
		Outcome   string    `json:"outcome"`
		Failure   string    `json:"failure"`
		Code      string    `json:"error_code"`
		Message   string    `json:"message"`
		StartedAt time.Time `json:"started_at"`
		RetryAt   time.Time `json:"retry_at"`
	}
	var shown struct {
		Status struct {
			Orders []struct {
				ID        certctl.ID `json:"id"`
				ErrorCode string     `json:"error_code"`
				Attempts  []attempt  `json:"attempts"`
			} `json:"orders"`
		} `json:"status"`
	}
	w.as(http.MethodGet, "/api/v1/certificates/mail", nil).want(http.StatusOK).into(&shown)
	if len(shown.Status.Orders) != 1 || len(shown.Status.Orders[0].Attempts) != 0 {
		t.Fatalf("before the first attempt: %+v", shown)
	}
	order := shown.Status.Orders[0].ID
	jobs, err := w.ReadyOrders(t.Context(), []certctl.ID{order})
	w.must(err)
	again := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for range 5 {
		_, err := w.Pool().Exec(t.Context(), `update cert_order set wait = '' where id = $1`, order)
		w.must(err)
		begun, err := w.BeginIssue(t.Context(), "worker-1", time.Minute, []certctl.AttemptStart{{
			Order: order, Revision: jobs[0].Order.Revision, Issuer: jobs[0].Issuer.ID, StartedAt: time.Now(), Serial: "0a1b",
		}})
		w.must(err)
		_, err = w.FinishIssue(t.Context(), []certctl.AttemptEnd{{Order: order, N: begun[0].N, Worker: "worker-1", RetryAt: again,
			Err: &certctl.IssueError{Kind: certctl.FailRateLimited, Code: "rate_limited", Message: "too many requests"}}})
		w.must(err)
	}
	var one struct {
		Attempts []attempt `json:"attempts"`
	}
	w.as(http.MethodGet, "/api/v1/orders/"+order.String(), nil).want(http.StatusOK).into(&one)
	if len(one.Attempts) != 5 {
		t.Fatalf("attempts %+v", one.Attempts)
	}
	a := one.Attempts[4]
	if a.N != 5 || a.Worker != "worker-1" || a.Issuer == "" || a.Serial != "0a1b" || len(a.SPKI) != 64 || a.Outcome != "failed" ||
		a.Failure != "rate_limited" || a.Code != "rate_limited" || a.Message == "" || a.StartedAt.IsZero() || !a.RetryAt.Equal(again) {
		t.Errorf("attempt %+v", a)
	}
	w.as(http.MethodGet, "/api/v1/certificates/mail", nil).want(http.StatusOK).into(&shown)
	link := shown.Status.Orders[0]
	if link.ErrorCode != "rate_limited" || len(link.Attempts) != 3 || link.Attempts[2] != a {
		t.Errorf("status %+v", link)
	}
}
