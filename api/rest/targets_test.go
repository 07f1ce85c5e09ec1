package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

// testView is what the API shows of a test.
type testView struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Steps []struct {
		Step, State, Message, Remedy string
	} `json:"steps"`
}

// A test is pending until its agent has answered, and is then seen with the target.
// An agent that cannot test is named at once.
func TestTargetsAreTested(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	node := w.node("node-1")
	w.must(node.asks())
	w.do(http.MethodPost, "/api/v1/targets", w.admin, map[string]any{
		"name": "web", "agent": "node-1", "kind": "files", "settings": map[string]any{"directory": "/srv/tls"},
	}).want(http.StatusCreated)
	if p := w.do(http.MethodPost, "/api/v1/targets/web/test", w.admin, nil).want(http.StatusConflict).refusal(); !strings.Contains(p.Detail, "cannot test targets") {
		t.Errorf("an older agent: %+v", p)
	}
	w.must(node.asks(certctl.FeatureTest))
	var asked testView
	w.do(http.MethodPost, "/api/v1/targets/web/test", w.admin, nil).want(http.StatusAccepted).into(&asked)
	if asked.State != "pending" || asked.ID == "" {
		t.Errorf("asked %+v", asked)
	}
	work, err := node.work(certctl.FeatureTest)
	w.must(err)
	if len(work.Tests) != 1 {
		t.Fatalf("sent %+v", work.Tests)
	}
	_, err = w.RecordReports(t.Context(), []certctl.AgentReport{{
		Statement: certctl.Statement{Agent: node.id, Kind: certctl.ReportTested, Object: work.Tests[0].ID, Number: work.Tests[0].Number},
		Tested:    &certctl.TestReport{Steps: []certctl.TestStep{{Step: "policy", State: certctl.StepFails, Message: "not allowed", Remedy: "allow it"}}},
	}})
	w.must(err)
	var target struct {
		Test testView `json:"test"`
	}
	w.do(http.MethodGet, "/api/v1/targets/web", w.admin, nil).want(http.StatusOK).into(&target)
	if target.Test.ID != asked.ID || target.Test.State != "failed" || len(target.Test.Steps) != 1 || target.Test.Steps[0].Remedy != "allow it" {
		t.Errorf("shown %+v", target.Test)
	}
	if list := w.do(http.MethodGet, "/api/v1/targets", w.admin, nil).want(http.StatusOK); strings.Contains(string(list.body), `"test"`) {
		t.Errorf("list %s", list.body)
	}
}

// What was not proven against the real daemon is said to be so wherever it is shown.
func TestExperimentalTargetsSaySo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.node("node-1")
	type view struct {
		Kind         string `json:"kind"`
		Experimental bool   `json:"experimental"`
	}
	want := map[string]bool{"files": false, "envoy": true, "socket": false, "sds": true, "aws-acm": true, "traefik": true}
	for kind, experimental := range want {
		settings := map[string]any{"directory": "/srv/tls"}
		if kind == "socket" || kind == "sds" {
			settings["socket"] = "/run/certctl/" + kind
		}
		if kind == "aws-acm" {
			settings = map[string]any{"region": "eu-central-1"}
		}
		if kind == "traefik" {
			settings["documents"] = "/srv/traefik"
		}
		var created, shown view
		w.do(http.MethodPost, "/api/v1/targets", w.admin, map[string]any{"name": kind, "agent": "node-1", "kind": kind, "settings": settings}).want(http.StatusCreated).into(&created)
		w.do(http.MethodGet, "/api/v1/targets/"+kind, w.admin, nil).want(http.StatusOK).into(&shown)
		if created.Experimental != experimental || shown.Experimental != experimental {
			t.Errorf("%s: created %+v, shown %+v", kind, created, shown)
		}
	}
	var list struct {
		Items []view `json:"items"`
	}
	w.do(http.MethodGet, "/api/v1/targets", w.admin, nil).want(http.StatusOK).into(&list)
	if len(list.Items) != len(want) {
		t.Fatalf("list %+v", list)
	}
	for _, item := range list.Items {
		if item.Experimental != want[item.Kind] {
			t.Errorf("listed %+v", item)
		}
	}
}

// node is an active agent.
type node struct {
	w    *world
	id   certctl.ID
	name string
}

func (w *world) node(name string) *node {
	w.t.Helper()
	n := &node{w: w, name: name}
	w.must(w.Pool().QueryRow(w.t.Context(), `
		insert into agent (id, team_id, name, state, machine_id, statement)
		select gen_random_uuid(), id, $1, 'active', $1, '{}' from team where name = 'default' returning id`, name).Scan(&n.id))
	return n
}

// asks lets the node ask for work, with features.
func (n *node) asks(features ...string) error {
	_, err := n.work(features...)
	return err
}

func (n *node) work(features ...string) (certctl.MailboxWork, error) {
	answers, err := n.w.MailboxFor(n.w.t.Context(), []certctl.MailboxAsk{{Agent: n.id, Request: certctl.MailboxRequest{
		Session: certctl.ID{1}, MachineID: n.name, Version: "1", Features: features,
	}}})
	if err != nil {
		return certctl.MailboxWork{}, err
	}
	return answers[0], nil
}
