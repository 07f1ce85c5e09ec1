package images

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// plainCheck finds health checks that ask over plain HTTP: what they ask speaks
// TLS, and they would fail for ever.
var plainCheck = regexp.MustCompile(`(?i)(healthcheck|livenessProbe|readinessProbe|startupProbe|wget|curl)[^\n]*http://[^\n]*(/health|/ready|8443)`)

// httpGet is a probe of Kubernetes as far as its indentation goes; without a scheme
// it asks over plain HTTP.
var httpGet = regexp.MustCompile(`(?m)^( *)(- )?httpGet:(.*)\n((?:\s*\n|( +).*\n)*)`)

// plainProbe returns the first probe in a manifest or template that does not say
// HTTPS.
func plainProbe(text string) string {
	for _, found := range httpGet.FindAllStringSubmatchIndex(text, -1) {
		indent := found[3] - found[2]
		probe := text[found[6]:found[7]]
		for line := range strings.Lines(text[found[8]:found[9]]) {
			if strings.TrimSpace(line) != "" && len(line)-len(strings.TrimLeft(line, " ")) <= indent {
				break
			}
			probe += line
		}
		if !strings.Contains(probe, "scheme: HTTPS") {
			return "httpGet:" + probe
		}
	}
	return ""
}

func TestNoHealthCheckAsksOverPlainHTTP(t *testing.T) {
	t.Parallel()
	list, err := exec.CommandContext(t.Context(), "git", "-C", "../../..", "ls-files", "-co", "--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for file := range strings.FieldsSeq(string(list)) {
		if !strings.Contains(file, "Dockerfile") && !strings.HasSuffix(file, ".md") && !strings.HasSuffix(file, ".yml") && !strings.HasSuffix(file, ".yaml") && !strings.HasSuffix(file, ".tpl") {
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
		if found := plainProbe(string(text)); found != "" {
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
	const probe = "livenessProbe:\n  httpGet:\n    path: /health\n    port: 8443\n%sreadinessProbe:\n  httpGet: {path: /ready, port: https, scheme: HTTPS}\n"
	if plainProbe(fmt.Sprintf(probe, "")) == "" {
		t.Error("a probe without a scheme would pass")
	}
	if found := plainProbe(fmt.Sprintf(probe, "    scheme: HTTPS\n")); found != "" {
		t.Errorf("a probe over https is refused: %s", found)
	}
}
