package rest_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestFreezes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.as(http.MethodPost, "/api/v1/freezes", map[string]any{"name": "december", "labels": map[string]string{"env": "prod"}, "ends_at": "2099-01-01T00:00:00Z"}).
		want(http.StatusCreated)
	if !strings.HasPrefix(made.header.Get("Location"), "/api/v1/freezes/") {
		t.Errorf("location %q", made.header.Get("Location"))
	}
	var list struct {
		Items []struct {
			Name string `json:"name"`
			By   string `json:"created_by"`
		} `json:"items"`
	}
	w.as(http.MethodGet, "/api/v1/freezes", nil).want(http.StatusOK).into(&list)
	if len(list.Items) != 1 || list.Items[0].Name != "december" || list.Items[0].By == "" {
		t.Errorf("%+v", list)
	}
	w.as(http.MethodPost, "/api/v1/freezes", map[string]any{"name": "past", "ends_at": "2020-01-01T00:00:00Z"}).want(http.StatusBadRequest)
	w.as(http.MethodDelete, "/api/v1/freezes/december", nil).want(http.StatusNoContent)
	w.as(http.MethodDelete, "/api/v1/freezes/december", nil).want(http.StatusNotFound)
}

func TestPlanAndExplanation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as(http.MethodPost, "/api/v1/certificates", map[string]any{"name": "mail", "issuer": "local", "csr": csr(t, "mail.example.com")}).want(http.StatusCreated)
	var plan struct {
		Keys     int   `json:"keys"`
		Renewals int   `json:"renewals"`
		Rules    []any `json:"rules"`
	}
	w.as(http.MethodGet, "/api/v1/renewal-plan?days=1000", nil).want(http.StatusOK).into(&plan)
	if plan.Keys != 1 || plan.Renewals < 10 || len(plan.Rules) == 0 {
		t.Errorf("%+v", plan)
	}
	w.as(http.MethodGet, "/api/v1/renewal-plan?days=0", nil).want(http.StatusBadRequest)
	var why struct {
		Holders []struct {
			Sentences []string `json:"sentences"`
		} `json:"holders"`
	}
	w.as(http.MethodGet, "/api/v1/certificates/mail/explain", nil).want(http.StatusOK).into(&why)
	if len(why.Holders) != 1 || len(why.Holders[0].Sentences) < 2 {
		t.Errorf("%+v", why)
	}
	w.as(http.MethodPost, "/api/v1/certificates/mail/pause", nil).want(http.StatusOK)
	w.as(http.MethodPost, "/api/v1/certificates/mail/renew", nil).want(http.StatusConflict)
	w.as(http.MethodPost, "/api/v1/certificates/mail/resume", nil).want(http.StatusOK)
	w.as(http.MethodPost, "/api/v1/certificates/mail/renew/preview", nil).want(http.StatusOK)
}

// A preflight asks servers elsewhere, so that it is for those who may issue; our own
// CA asks nobody.
func TestPreflights(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as(http.MethodPost, "/api/v1/certificates", map[string]any{"name": "own", "dns_names": []string{"own.example.com"}, "issuer": "local", "key_mode": "csr"}).want(http.StatusCreated)
	w.as(http.MethodPost, "/api/v1/issuers", map[string]any{"name": "le", "kind": "acme", "trust": "public", "settings": map[string]any{
		"directory": "https://127.0.0.1:1/directory", "terms_of_service_agreed": true,
	}}).want(http.StatusCreated)
	w.as(http.MethodPost, "/api/v1/certificates", map[string]any{"name": "address", "ip_addresses": []string{"127.0.0.1"}, "issuer": "le", "key_mode": "csr"}).want(http.StatusCreated)
	type preflight struct {
		OK      bool
		Issuers []struct {
			OK     bool
			Checks []struct {
				Name, Check, Message, Remedy string
				OK                           bool
			}
		}
	}
	var own, address preflight
	w.as(http.MethodGet, "/api/v1/certificates/own/preflight", nil).want(http.StatusOK).into(&own)
	if !own.OK || len(own.Issuers) != 1 || len(own.Issuers[0].Checks) != 0 {
		t.Errorf("%+v", own)
	}
	w.as(http.MethodGet, "/api/v1/certificates/address/preflight", nil).want(http.StatusOK).into(&address)
	if address.OK || len(address.Issuers) != 1 || len(address.Issuers[0].Checks) != 2 {
		t.Fatalf("%+v", address)
	}
	for _, check := range address.Issuers[0].Checks {
		if check.OK || check.Remedy == "" || !strings.Contains(check.Message, "private network") {
			t.Errorf("%+v", check)
		}
	}
	viewer := w.member("watcher", "", "viewer")
	// Nothing is to be published for names that other challenges prove.
	if records := w.do(http.MethodGet, "/api/v1/certificates/address/validation-records", viewer, nil).want(http.StatusOK); strings.TrimSpace(string(records.body)) != `{"items":[]}` {
		t.Errorf("%s", records.body)
	}
	w.do(http.MethodGet, "/api/v1/certificates/none/validation-records", viewer, nil).want(http.StatusNotFound)
	w.do(http.MethodGet, "/api/v1/certificates/own/preflight", viewer, nil).want(http.StatusForbidden)
	w.as(http.MethodGet, "/api/v1/certificates/none/preflight", nil).want(http.StatusNotFound)
}

func TestWindowsOfPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	window := func(cron, duration string) map[string]any {
		return map[string]any{"name": "nights", "deploy_windows": []any{map[string]any{"cron": cron, "duration": duration, "time_zone": "Europe/Berlin"}}}
	}
	bad := w.as(http.MethodPost, "/api/v1/renewal-policies", window("0 25 * * *", "4h")).want(http.StatusBadRequest)
	if !strings.Contains(string(bad.body), "/deploy_windows/0/cron") {
		t.Errorf("%s", bad.body)
	}
	made := w.as(http.MethodPost, "/api/v1/renewal-policies", window("0 22 * * mon-fri", "4h")).want(http.StatusCreated)
	if !strings.Contains(string(made.body), `"cron":"0 22 * * mon-fri"`) {
		t.Errorf("%s", made.body)
	}
}

func TestWavesOfPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.as(http.MethodPost, "/api/v1/renewal-policies", map[string]any{"name": "waves", "deploy_waves": map[string]any{"canary": 1, "share": 0.25, "pause": "10m"}}).
		want(http.StatusCreated)
	if !strings.Contains(string(made.body), `"deploy_waves":{"canary":1,"pause":"10m0s","share":0.25}`) {
		t.Errorf("%s", made.body)
	}
	for _, bad := range []map[string]any{{}, {"canary": 0}, {"canary": 1, "share": 2}, {"canary": 1, "pause": "soon"}} {
		w.as(http.MethodPost, "/api/v1/renewal-policies", map[string]any{"name": "bad", "deploy_waves": bad}).want(http.StatusBadRequest)
	}
}
