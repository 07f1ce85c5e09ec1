package rest_test

import (
	"net/http"
	"strings"
	"testing"
)

// agentTarget makes an agent with a target of the same name.
func (w *world) agentTarget(name string) {
	w.t.Helper()
	w.agent(name)
	w.as(http.MethodPost, "/api/v1/targets", map[string]any{"name": name, "agent": name, "kind": "files", "settings": map[string]any{"directory": "/srv/tls"}}).
		want(http.StatusCreated)
}

// An issuer's limit decides on the sharing, and every answer shows who has the key.
func TestSharingOverTheAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"one", "two", "three"} {
		w.agentTarget(name)
	}
	w.as(http.MethodPost, "/api/v1/issuers", map[string]any{"name": "strict", "kind": "local", "duplicates": map[string]any{"leaves": 2, "per": "7d"}, "priced": true}).
		want(http.StatusCreated)
	var issuer struct {
		Duplicates struct {
			Leaves int    `json:"leaves"`
			Per    string `json:"per"`
		} `json:"duplicates"`
		Priced bool `json:"priced"`
	}
	w.as(http.MethodGet, "/api/v1/issuers/strict", nil).want(http.StatusOK).into(&issuer)
	if issuer.Duplicates.Leaves != 2 || issuer.Duplicates.Per != "7d" || !issuer.Priced {
		t.Errorf("issuer %+v", issuer)
	}
	body := map[string]any{"name": "wild", "dns_names": []string{"*.example.com"}, "issuer": "strict", "targets": []string{"one", "two", "three"}, "sharing": "per_agent"}
	refusal := w.as(http.MethodPost, "/api/v1/certificates", body).want(http.StatusBadRequest)
	if !strings.Contains(string(refusal.body), "gives 2 in 7 days") {
		t.Errorf("refused with %s", refusal.body)
	}
	delete(body, "sharing")
	w.as(http.MethodPost, "/api/v1/certificates", body).want(http.StatusCreated)
	var got struct {
		Sharing string `json:"sharing"`
		Status  struct {
			Holders []struct {
				Kind    string `json:"kind"`
				Members []struct {
					Key string `json:"key"`
				} `json:"members"`
			} `json:"holders"`
		} `json:"status"`
	}
	w.as(http.MethodGet, "/api/v1/certificates/wild", nil).want(http.StatusOK).into(&got)
	if got.Sharing != "shared" || len(got.Status.Holders) != 1 || got.Status.Holders[0].Kind != "shared" || len(got.Status.Holders[0].Members) != 3 ||
		got.Status.Holders[0].Members[0].Key != "waits" {
		t.Errorf("certificate %+v", got)
	}
	w.as(http.MethodPatch, "/api/v1/certificates/wild", map[string]any{"sharing": "per_agent"}).want(http.StatusBadRequest)
	w.as(http.MethodPatch, "/api/v1/certificates/wild", map[string]any{"issuers": []string{"local"}, "sharing": "per_agent"}).want(http.StatusOK)
	w.as(http.MethodGet, "/api/v1/certificates/wild", nil).want(http.StatusOK).into(&got)
	if got.Sharing != "per_agent" || len(got.Status.Holders) != 3 {
		t.Errorf("certificate %+v", got)
	}
	w.as(http.MethodPost, "/api/v1/agents/one/retire", nil).want(http.StatusConflict)
	w.as(http.MethodPost, "/api/v1/agents/one/retire?compromised=true", nil).want(http.StatusOK)
}
