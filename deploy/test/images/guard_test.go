package images

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// plainCheck finds health checks that ask over plain HTTP: what they ask speaks
// TLS, and they would fail for ever.
var plainCheck = regexp.MustCompile(`(?i)(healthcheck|livenessProbe|readinessProbe|startupProbe|wget|curl)[^\n]*http://[^\n]*(/health|/ready|8443)`)

func TestNoHealthCheckAsksOverPlainHTTP(t *testing.T) {
	t.Parallel()
	list, err := exec.CommandContext(t.Context(), "git", "-C", "../../..", "ls-files", "-co", "--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for file := range strings.FieldsSeq(string(list)) {
		if !strings.Contains(file, "Dockerfile") && !strings.HasSuffix(file, ".md") && !strings.HasSuffix(file, ".yml") && !strings.HasSuffix(file, ".yaml") {
			continue
		}
		text, err := os.ReadFile("../../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		seen++
		if found := plainCheck.Find(text); found != nil {
			t.Errorf("%s: %s", file, found)
		}
	}
	if seen < 10 {
		t.Errorf("only %d files were looked at", seen)
	}
	for _, bad := range []string{"HEALTHCHECK CMD curl -f http://localhost:8443/health", "wget -q http://localhost:8443/ready"} {
		if !plainCheck.MatchString(bad) {
			t.Errorf("%q would pass", bad)
		}
	}
}
