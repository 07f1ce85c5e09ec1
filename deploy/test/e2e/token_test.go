package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

// The token that all nodes of a fleet share, on a real bus: a stranger gets no
// name of an agent that is connected, and a pod without its former keys comes back
// as soon as the one before it has ended.
func TestAFleetsTokenTakesOverNobodyOnLine(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.activate("shop")
	var token struct {
		Token         string `json:"token"`
		CAFingerprint string `json:"ca_fingerprint"`
	}
	s.call(http.MethodPost, "/api/v1/agents/join-tokens", map[string]any{"uses": 9, "expires_in": "1h", "replace": true}, &token)
	// As the chart's Job makes it, and as if the agent had joined with it.
	s.sql(`update join_token set fleet = 'kubernetes' where replace`)
	s.sql(`update agent set fleet = 'kubernetes'`)

	pod := &local.Agent{Binary: s.Agent.Binary, Dir: t.TempDir(), AgentName: s.Agent.AgentName, PolicyFile: s.Agent.PolicyFile, Env: s.Agent.Env}
	if err := pod.Enrol(t.Context(), s.Server.URL(), token.Token, token.CAFingerprint); err == nil || !strings.Contains(err.Error(), "is on line") {
		t.Fatalf("the name of an agent on line was given away: %v", err)
	}
	before := s.certificate("shop").Status.Deployments[0]
	s.Agent.Kill()
	s.eventually(time.Minute, "the next pod has joined", func() bool {
		return pod.Enrol(t.Context(), s.Server.URL(), token.Token, token.CAFingerprint) == nil
	})
	s.must(pod.Start(t.Context()))
	defer pod.Kill()
	s.eventually(time.Minute, "its certificate was issued anew", func() bool {
		now := s.certificate("shop").Status.Deployments
		return len(now) > 0 && now[0].State == "verified" && now[0].Version != before.Version
	})
}
