package rest_test

import (
	"net/http"
	"strings"
	"testing"
)

// A channel is made, shown without its secrets, changed and ended.
func TestChannels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	body := map[string]any{
		"name": "automation", "kind": "webhook", "settings": map[string]any{"url": "https://hooks.example.com/in"},
		"secrets": map[string]any{"secret": secret},
		"rules":   []any{map[string]any{"events": []any{"certificate_issued"}, "labels": map[string]any{"env": "prod"}}, map[string]any{"severity": "error"}},
		"digest":  map[string]any{"at": "08:00", "zone": "Europe/Berlin"},
	}
	made := w.as(http.MethodPost, "/api/v1/channels", body).want(http.StatusCreated)
	if w.sealed.Load() != 1 || strings.Contains(string(made.body), secret) {
		t.Errorf("sealed %d, answered %s", w.sealed.Load(), made.body)
	}
	var shown struct {
		Name, Kind string
		Rules      []struct {
			Events   []string
			Severity string
			Labels   map[string]string
		}
		Digest struct{ At, Zone string }
	}
	got := w.as(http.MethodGet, "/api/v1/channels/automation", nil).want(http.StatusOK).into(&shown)
	if strings.Contains(string(got.body), secret) || shown.Kind != "webhook" || len(shown.Rules) != 2 || shown.Rules[0].Severity != "info" ||
		shown.Rules[0].Labels["env"] != "prod" || shown.Rules[1].Severity != "error" || shown.Digest.Zone != "Europe/Berlin" {
		t.Errorf("%s", got.body)
	}
	w.as(http.MethodPost, "/api/v1/channels", body).want(http.StatusConflict)

	// What cannot work is refused with the field that is wrong.
	for field, change := range map[string]map[string]any{
		"/kind":             {"kind": "pigeon"},
		"/settings/url":     {"settings": map[string]any{"url": "http://plain.example.com"}},
		"/secrets/secret":   {"secrets": map[string]any{}},
		"/rules/0/events/0": {"rules": []any{map[string]any{"events": []any{"certificate_exploded"}}}},
		"/digest/at":        {"digest": map[string]any{"at": "8 am"}},
		"/digest/zone":      {"digest": map[string]any{"at": "08:00", "zone": "Mars/Olympus"}},
	} {
		wrong := map[string]any{}
		for key, value := range body {
			wrong[key] = value
		}
		wrong["name"] = "wrong"
		for key, value := range change {
			wrong[key] = value
		}
		if answer := w.as(http.MethodPost, "/api/v1/channels", wrong); answer.status != http.StatusBadRequest || !strings.Contains(string(answer.body), field) {
			t.Errorf("%s: %d %s", field, answer.status, answer.body)
		}
	}

	delete(body, "secrets")
	shown.Rules = nil
	before := w.sealed.Load()
	body["rules"] = []any{}
	w.as(http.MethodPut, "/api/v1/channels/automation", body).want(http.StatusOK).into(&shown)
	if len(shown.Rules) != 1 || shown.Rules[0].Severity != "warning" || w.sealed.Load() != before {
		t.Errorf("after a change without secrets and rules: %+v, sealed %d", shown, w.sealed.Load())
	}
	viewer, operator := w.member("viewer", "", "viewer"), w.member("operator", "", "operator")
	w.do(http.MethodPost, "/api/v1/channels/automation/test", viewer, nil).want(http.StatusForbidden)
	w.do(http.MethodDelete, "/api/v1/channels/automation", viewer, nil).want(http.StatusForbidden)

	var told struct{ ID, State, Name, Title string }
	w.do(http.MethodPost, "/api/v1/channels/automation/test", operator, nil).want(http.StatusAccepted).into(&told)
	if told.State != "pending" || told.Name != "channel_tested" || told.Title != "test of a channel" {
		t.Errorf("%+v", told)
	}
	var page struct{ Items []struct{ ID string } }
	w.as(http.MethodGet, "/api/v1/notifications?channel=automation&state=pending", nil).want(http.StatusOK).into(&page)
	if len(page.Items) != 1 || page.Items[0].ID != told.ID {
		t.Errorf("%+v", page)
	}
	at := "/api/v1/notifications/" + told.ID
	w.as(http.MethodPost, at+"/replay", nil).want(http.StatusConflict) // it was not given up
	w.do(http.MethodDelete, at, viewer, nil).want(http.StatusForbidden)
	w.do(http.MethodDelete, at, operator, nil).want(http.StatusNoContent)
	w.as(http.MethodGet, at, nil).want(http.StatusOK).into(&told)
	if told.State != "discarded" {
		t.Errorf("%+v", told)
	}
	w.as(http.MethodDelete, "/api/v1/channels/automation", nil).want(http.StatusNoContent)
	w.as(http.MethodPost, "/api/v1/channels/automation/test", nil).want(http.StatusNotFound)
}
