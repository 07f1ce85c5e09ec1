//go:build chart

package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What a worker runs for a DNS record is the chart's own script, which calls the
// user's: with this machine's folder in place of /scripts they say what they got.
func TestDNSScriptsAreCalledForWhatIsAsked(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	objects := mustRender(t, append([]string{"-f", "testdata/scripts.yaml"}, quick...)...)
	for _, one := range objects {
		if one.kind() != "ConfigMap" {
			continue
		}
		for name, text := range at[map[string]any](one, "data") {
			content := strings.ReplaceAll(text.(string), "/scripts/", folder+"/")
			if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		verb, want string
		ok         bool
	}{
		{"present", "present script: present _acme-challenge.example.com. v a'l\"ue\n", true},
		{"remove", "cleanup script: remove _acme-challenge.example.com. v a'l\"ue\n", true},
		{"other", "neither present nor remove: other\n", false},
	} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(folder, "dns"), c.verb, "_acme-challenge.example.com.", `v a'l"ue`).CombinedOutput()
		if string(out) != c.want || (err == nil) != c.ok {
			t.Errorf("%s: %q, %v; want %q", c.verb, out, err, c.want)
		}
	}
}

// Only workers have the scripts, as files of their own that are no links: the
// worker runs nothing else.
func TestDNSScriptsAreMountedByWorkers(t *testing.T) {
	t.Parallel()
	workers := 0
	for _, c := range containers(mustRender(t, append([]string{"-f", "testdata/scripts.yaml"}, quick...)...)) {
		worker := at[string](c.owner, "metadata", "labels", "app.kubernetes.io/component") == "worker"
		found := false
		for _, mount := range at[[]any](c.self, "volumeMounts") {
			if at[string](mount, "mountPath") == "/etc/certctl/dns/dns" {
				found = at[string](mount, "subPath") == "dns"
			}
		}
		if found != worker || strings.Contains(strings.Join(c.environment(), " "), "CERTCTL_ACME_DNS_EXEC_DIR=/etc/certctl/dns") != worker {
			t.Errorf("%s: scripts mounted: %v", c, found)
		}
		if worker {
			workers++
			if image := at[string](c.self, "image"); image != "certctl-server:dev-shell" {
				t.Errorf("the worker runs %s", image)
			}
		}
	}
	if workers != 1 {
		t.Errorf("%d workers", workers)
	}
}
