//go:build engine

package images

import (
	"os/exec"
	"testing"
)

// Prometheus' own tool reads the alert rules and tries each.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"check", "rules", root + "/deploy/observability/alerts.yml"},
		{"test", "rules", root + "/deploy/observability/alerts_test.yml"},
	} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
