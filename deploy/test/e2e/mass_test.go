package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// A mass change from the command line: what is served is replaced wave by wave,
// then revoked by itself.
func TestMassChange(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, name := range []string{"shop", "blog"} {
		s.ok("", "certificates", "create", name, "-d", name+".example.com", "--issuer", "local", "--target", "web", "--label", "tier=1", "--wait")
	}
	selection := []string{"--label", "tier=1", "--canary", "1", "--deadline", "1m", "--patience", "5s"}
	if plan := s.ok("", append([]string{"rollouts", "create", "--dry-run"}, selection...)...); !strings.Contains(plan, "2 selected, 2 to replace") {
		t.Errorf("plan %s", plan)
	}
	if out := s.ok("", append([]string{"rollouts", "create", "--watch", "--why", "new CA"}, selection...)...); !strings.Contains(out, "completed") {
		t.Errorf("rollout %s", out)
	}
	if table := s.ok("", "rollouts", "list"); !strings.Contains(table, "completed") || !strings.Contains(table, "new CA") {
		t.Errorf("list %s", table)
	}
	var versions struct {
		Items []struct {
			RevokedAt string `json:"revoked_at"`
		} `json:"items"`
	}
	list := func() []byte { return []byte(s.ok("", "versions", "list", "--certificate", "shop", "-o", "json")) }
	if s.must(json.Unmarshal(list(), &versions)); len(versions.Items) != 2 {
		t.Errorf("%+v", versions)
	}
	s.ok("", append([]string{"versions", "revoke", "--reason", "superseded"}, selection...)...)
	revoked := func() bool {
		versions.Items = nil
		s.must(json.Unmarshal(list(), &versions))
		n := 0
		for _, v := range versions.Items {
			if v.RevokedAt != "" {
				n++
			}
		}
		return n == 2 && len(versions.Items) == 3
	}
	if !await(t.Context(), 90*time.Second, revoked) {
		t.Errorf("not replaced and revoked: %+v\n%s", versions, s.ok("", "revocations", "list"))
	}
	s.ok("", "certificates", "status", "shop", "--watch")
}
