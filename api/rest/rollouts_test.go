package rest_test

import (
	"net/http"
	"strings"
	"testing"
)

// rollout is a mass change as clients see it.
type rollout struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Total    int    `json:"total"`
	Replaced int    `json:"replaced"`
	Waves    []struct {
		Items   int `json:"items"`
		Pending int `json:"pending"`
	} `json:"waves"`
}

func TestRollouts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"a", "b"} {
		w.as(http.MethodPost, "/api/v1/certificates/import", map[string]any{"name": name, "issuer": "local", "certificate": newExisting(t, name+".example.com").certificate}).want(http.StatusCreated)
	}
	body := map[string]any{"issued_before": "2099-01-01T00:00:00Z", "canary": 1, "growth": 1, "deadline": "2099-01-01T00:00:00Z", "dry_run": true}
	var r rollout
	w.as(http.MethodPost, "/api/v1/rollouts", body).want(http.StatusOK).into(&r)
	if r.ID != "" || r.Total != 2 || r.Replaced != 2 || len(r.Waves) != 2 {
		t.Errorf("plan %+v", r)
	}
	body["dry_run"] = false
	viewer := w.member("viewer", "", "viewer")
	w.do(http.MethodPost, "/api/v1/rollouts", viewer, body).want(http.StatusForbidden)
	made := w.as(http.MethodPost, "/api/v1/rollouts", body, "Idempotency-Key", "k").want(http.StatusCreated).into(&r)
	if made.header.Get("Location") != "/api/v1/rollouts/"+r.ID || r.State != "running" {
		t.Errorf("%+v", r)
	}
	path := "/api/v1/rollouts/" + r.ID
	w.as(http.MethodPost, path+"/resume", nil).want(http.StatusConflict)
	w.as(http.MethodPost, path+"/stop", nil).want(http.StatusOK)
	w.do(http.MethodPost, path+"/resume", viewer, nil).want(http.StatusForbidden)
	w.as(http.MethodPost, path+"/resume", nil).want(http.StatusOK)
	w.as(http.MethodPost, path+"/cancel", nil).want(http.StatusOK)
	w.as(http.MethodGet, path, nil).want(http.StatusOK).into(&r)
	if r.State != "cancelled" {
		t.Errorf("%+v", r)
	}
	if list := w.as(http.MethodGet, "/api/v1/rollouts?state=cancelled", nil).want(http.StatusOK); !strings.Contains(string(list.body), r.ID) {
		t.Errorf("%s", list.body)
	}
	if wrong := w.as(http.MethodGet, "/api/v1/rollouts/r1", nil).want(http.StatusBadRequest); !strings.Contains(string(wrong.body), `the parameter id cannot be read: \"r1\" is not an id`) {
		t.Errorf("%s", wrong.body)
	}
	w.as(http.MethodPost, "/api/v1/rollouts", map[string]any{}).want(http.StatusBadRequest)
	w.as(http.MethodPost, "/api/v1/rollouts", map[string]any{"issuer": "local", "patience": "soon"}).want(http.StatusBadRequest)
}

func TestBulkRevocation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as(http.MethodPost, "/api/v1/certificates/import", map[string]any{"name": "old", "certificate": newExisting(t, "old.example.com").certificate}).want(http.StatusCreated)
	body := map[string]any{"issued_before": "2099-01-01T00:00:00Z", "reason": "cessationOfOperation", "dry_run": true}
	var r rollout
	w.as(http.MethodPost, "/api/v1/bulk/revoke", body).want(http.StatusOK).into(&r)
	if r.ID != "" || r.Total != 1 {
		t.Errorf("%+v", r)
	}
	w.as(http.MethodPost, "/api/v1/bulk/revoke", map[string]any{"reason": "superseded"}).want(http.StatusBadRequest)
	w.as(http.MethodPost, "/api/v1/bulk/revoke", map[string]any{"serials": []string{"xyz"}}).want(http.StatusBadRequest)
	body["dry_run"] = false
	w.do(http.MethodPost, "/api/v1/bulk/revoke", w.member("viewer", "", "viewer"), body).want(http.StatusForbidden)
	made := w.as(http.MethodPost, "/api/v1/bulk/revoke", body).want(http.StatusAccepted).into(&r)
	if made.header.Get("Location") != "/api/v1/rollouts/"+r.ID || r.Total != 1 || r.Replaced != 0 {
		t.Errorf("%+v", r)
	}
}
