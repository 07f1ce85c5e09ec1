package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

func TestRevocationsWaitAndAreCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as(http.MethodPost, "/api/v1/certificates/import", map[string]any{"name": "old", "issuer": "local", "certificate": newExisting(t, "old.example.com").certificate}).want(http.StatusCreated)
	w.as(http.MethodPost, "/api/v1/certificates/old/revoke", map[string]any{"reason": "keyCompromise", "replace": "before"}).want(http.StatusBadRequest)
	w.as(http.MethodPost, "/api/v1/certificates/old/revoke", map[string]any{"reason": "superseded", "replace": "sometime"}).want(http.StatusBadRequest)
	w.as(http.MethodPost, "/api/v1/certificates/old/revoke", map[string]any{"reason": "superseded"}).want(http.StatusAccepted)
	var list struct {
		Items []struct {
			Version certctl.ID `json:"version"`
			State   string     `json:"state"`
			DueAt   string     `json:"due_at"`
		} `json:"items"`
	}
	w.as(http.MethodGet, "/api/v1/revocations?state=waiting&certificate=old", nil).want(http.StatusOK).into(&list)
	if len(list.Items) != 1 || list.Items[0].DueAt == "" {
		t.Fatalf("%+v", list)
	}
	viewer := w.member("viewer", "", "viewer")
	path := "/api/v1/revocations/" + list.Items[0].Version.String() + "/cancel"
	w.do(http.MethodPost, path, viewer, nil).want(http.StatusForbidden)
	if a := w.as(http.MethodPost, path, nil).want(http.StatusOK); !strings.Contains(string(a.body), `"cancelled"`) {
		t.Errorf("%s", a.body)
	}
	w.as(http.MethodPost, path, nil).want(http.StatusConflict)
}
