package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
	"github.com/jackc/pgx/v5"
)

// sql changes the database behind the server's back, for what takes months.
func (s *stack) sql(statement string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.DatabaseURL)
	s.must(err)
	_, err = conn.Exec(s.t.Context(), statement)
	s.must(err)
	s.must(conn.Close(s.t.Context()))
}

func (s *stack) activate(name string) {
	s.t.Helper()
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": name, "dns_names": []string{name + ".example.com"}, "issuer": "local", "targets": []string{"web"},
	}, nil)
	s.eventually(time.Minute, name+" is active", func() bool { return s.certificate(name).Status.State == "active" })
}

// An agent whose log-in ended long ago comes back by itself, and catches up.
func TestAnAgentWithExpiredCredentialsComesBack(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.activate("before")
	s.Agent.Kill()
	file := filepath.Join(s.Agent.Dir, "credentials.json")
	text, err := os.ReadFile(file)
	s.must(err)
	var credentials map[string]any
	s.must(json.Unmarshal(text, &credentials))
	credentials["expires_at"], credentials["renew_at"] = time.Now().Add(-90*24*time.Hour), time.Now().Add(-92*24*time.Hour)
	text, err = json.Marshal(credentials)
	s.must(err)
	s.must(os.WriteFile(file, text, 0o600))
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "meanwhile", "dns_names": []string{"meanwhile.example.com"}, "issuer": "local", "targets": []string{"web"},
	}, nil)
	s.must(s.Agent.Start(t.Context()))
	s.eventually(time.Minute, "it has caught up", func() bool { return s.certificate("meanwhile").Status.State == "active" })
}

// While an agent is away, the command key ends and the API moves. It comes back
// with no hand.
func TestAnAgentThatWasAwayLearnsWhatChanged(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.activate("before")
	s.Agent.Kill()
	s.must(s.Server.Stop(t.Context()))
	s.sql(`update platform_key set not_after = now() where purpose = 'command'`)
	port, err := local.FreePort()
	s.must(err)
	s.Server.Listen = local.Loopback(port)
	s.must(s.Server.Start(t.Context()))
	s.API, err = s.Server.API()
	s.must(err)
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "meanwhile", "dns_names": []string{"meanwhile.example.com"}, "issuer": "local", "targets": []string{"web"},
	}, nil)
	s.must(s.Agent.Start(t.Context()))
	s.eventually(time.Minute, "it obeys the new key", func() bool { return s.certificate("meanwhile").Status.State == "active" })
}

// A copy of an agent's disk on another machine: nothing is sent to either, and
// everybody is told. One word of a person ends it.
func TestACopiedDiskIsAConflict(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.activate("before")
	clone := &local.Agent{
		Binary: s.Agent.Binary, Dir: filepath.Join(s.Dir, "clone"), AgentName: "clone", PolicyFile: s.Agent.PolicyFile,
		Env: []string{"CERTCTL_MACHINE_ID=another-machine"},
	}
	if output, err := exec.CommandContext(t.Context(), "cp", "-a", s.Agent.Dir, clone.Dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	startErr := clone.Start(t.Context()) // it may end at once: it is told to
	t.Cleanup(clone.Kill)
	agent := func() (a struct {
		State     string `json:"state"`
		MachineID string `json:"machine_id"`
	}) {
		s.call(http.MethodGet, "/api/v1/agents/local", nil, &a)
		return a
	}
	s.eventually(time.Minute, "the agent is in conflict", func() bool { return agent().State == "conflict" })
	var events struct {
		Items []event `json:"items"`
	}
	s.call(http.MethodGet, "/api/v1/events?name=agent_conflict", nil, &events)
	if len(events.Items) != 1 {
		t.Errorf("%d events (the copy: %v)", len(events.Items), startErr)
	}
	s.call(http.MethodPost, "/api/v1/certificates", map[string]any{
		"name": "meanwhile", "dns_names": []string{"meanwhile.example.com"}, "issuer": "local", "targets": []string{"web"},
	}, nil)
	if c := s.certificate("meanwhile"); c.Status.State != "pending" {
		t.Errorf("certificate %+v", c)
	}
	clone.Kill()
	s.Agent.Kill()
	s.call(http.MethodPost, "/api/v1/agents/local/resolve", map[string]any{"machine_id": agent().MachineID}, nil)
	s.must(s.Agent.Start(t.Context()))
	s.eventually(time.Minute, "it goes on", func() bool { return s.certificate("meanwhile").Status.State == "active" })
}
