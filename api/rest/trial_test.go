package rest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

func (w *world) team(name string) {
	w.t.Helper()
	_, err := w.Pool().Exec(w.t.Context(), `insert into team (id, name) values ($1, $2)`, certctl.NewID(time.Now()), name)
	w.must(err)
}

// acme makes an ACME issuer of the default team, with a staging directory.
func (w *world) acme(name string) {
	w.t.Helper()
	w.as(http.MethodPost, "/api/v1/issuers", map[string]any{"name": name, "kind": "acme", "trust": "public", "settings": map[string]any{
		"directory": "https://127.0.0.1:1/directory", "staging_directory": "https://127.0.0.1:1/staging", "terms_of_service_agreed": true,
		"budgets": map[string]any{"orders": map[string]any{"count": 1, "per": "31d"}},
	}}).want(http.StatusCreated)
}

// What an admin has issued from the default team's issuer is planned for the team
// that has the certificate, with the budgets of that issuer.
func TestATeamSeesThePlanOfTheDefaultTeamsIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.team("payments")
	w.acme("le")
	viewer := w.member("pay-viewer", "payments", "viewer")
	for _, name := range []string{"a", "b"} {
		w.as(http.MethodPost, "/api/v1/certificates", map[string]any{
			"name": name, "team": "payments", "dns_names": []string{name + ".example.com"}, "issuer": "le", "key_mode": "csr",
		}).want(http.StatusCreated)
	}
	var plan struct {
		Keys     int `json:"keys"`
		Findings []struct{ Kind, Message string }
	}
	w.do(http.MethodGet, "/api/v1/renewal-plan?days=30", viewer, nil).want(http.StatusOK).into(&plan)
	budgets := 0
	for _, f := range plan.Findings {
		if f.Kind == "over_budget" {
			budgets++
		}
	}
	if plan.Keys != 2 || budgets == 0 {
		t.Errorf("%+v", plan)
	}
}

// A team's operator tests what the default team's issuer is asked for, made already
// or not, and looks at what it will look at; an admin tests what a team's issuer is.
func TestATeamTestsAtTheDefaultTeamsIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.team("payments")
	w.acme("le")
	operator := w.member("pay-operator", "payments", "operator")
	w.as(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "a", "team": "payments", "dns_names": []string{"a.example.com"}, "issuer": "le", "key_mode": "csr",
	}).want(http.StatusCreated)
	type made struct {
		Directory string
		Issuer    struct{ Name string }
	}
	for _, body := range []any{nil, map[string]any{"issuer": "le"}} {
		var test made
		w.do(http.MethodPost, "/api/v1/certificates/a/test", operator, body).want(http.StatusAccepted).into(&test)
		if test.Directory != "https://127.0.0.1:1/staging" || test.Issuer.Name != "le" {
			t.Errorf("%+v", test)
		}
	}
	other := w.do(http.MethodPost, "/api/v1/certificates/a/test", operator, map[string]any{"issuer": "local"}).want(http.StatusBadRequest)
	if p := other.refusal(); len(p.Errors) != 1 || p.Errors[0].Field != "/issuer" {
		t.Errorf("%+v", p)
	}
	var preflight struct {
		Issuers []struct{ Issuer struct{ Name string } }
	}
	w.do(http.MethodGet, "/api/v1/certificates/a/preflight", operator, nil).want(http.StatusOK).into(&preflight)
	if len(preflight.Issuers) != 1 || preflight.Issuers[0].Issuer.Name != "le" {
		t.Errorf("%+v", preflight)
	}

	// A name of the request means what it would mean if it were submitted.
	w.as(http.MethodPost, "/api/v1/issuers", map[string]any{"name": "pay-le", "team": "payments", "kind": "acme", "trust": "public", "settings": map[string]any{
		"directory": "https://127.0.0.1:2/directory", "staging_directory": "https://127.0.0.1:2/staging", "terms_of_service_agreed": true,
	}}).want(http.StatusCreated)
	for _, issuer := range []string{"le", "pay-le"} {
		var test made
		w.as(http.MethodPost, "/api/v1/certificate-tests", map[string]any{
			"name": "b", "team": "payments", "dns_names": []string{"b.example.com"}, "issuer": issuer, "key_mode": "csr",
		}).want(http.StatusAccepted).into(&test)
		if test.Issuer.Name != issuer {
			t.Errorf("%+v", test)
		}
	}
	none := w.as(http.MethodPost, "/api/v1/certificate-tests", map[string]any{"name": "c", "dns_names": []string{"c.example.com"}, "key_mode": "csr"}).
		want(http.StatusBadRequest)
	if !strings.Contains(string(none.body), "/issuer") {
		t.Errorf("%s", none.body)
	}
}

// Nobody is asked at an issuer that is not to be asked.
func TestAPausedIssuerIsNotTested(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.acme("le")
	shop := map[string]any{"name": "shop", "dns_names": []string{"shop.example.com"}, "issuer": "le", "key_mode": "csr"}
	w.as(http.MethodPost, "/api/v1/certificates", shop).want(http.StatusCreated)
	w.as(http.MethodPost, "/api/v1/issuers/le/pause", nil).want(http.StatusOK)
	for path, body := range map[string]any{"/api/v1/certificates/shop/test": nil, "/api/v1/certificate-tests": shop} {
		p := w.as(http.MethodPost, path, body).want(http.StatusConflict).refusal()
		if !strings.Contains(p.Detail, "the issuer le is paused") {
			t.Errorf("%s: %+v", path, p)
		}
	}
	w.as(http.MethodPost, "/api/v1/issuers/le/resume", nil).want(http.StatusOK)
	w.as(http.MethodPost, "/api/v1/certificates/shop/test", nil).want(http.StatusAccepted)
}
