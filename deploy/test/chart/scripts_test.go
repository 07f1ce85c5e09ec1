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
		} else if image := at[string](c.self, "image"); strings.Contains(image, "-shell") {
			t.Errorf("%s runs %s", c, image)
		}
	}
	if workers != 1 {
		t.Errorf("%d workers", workers)
	}
}

// The image with a shell is that of the server's own place and tag, and gives way to
// one that is named.
func TestWorkersRunTheImageThatScriptsNeed(t *testing.T) {
	t.Parallel()
	server := []string{"--set", "server.image.repository=registry.example.com/pki,server.image.tag=1.2.3,server.image.pullPolicy=Always"}
	scripts := append([]string{"-f", "testdata/scripts.yaml"}, server...)
	for _, c := range []struct {
		args []string
		want string
	}{
		{server, "registry.example.com/pki:1.2.3 Always"},
		{scripts, "registry.example.com/pki:1.2.3-shell Always"},
		{append([]string{"--set", "worker.image.tag=mine"}, scripts...), "registry.example.com/pki:mine Always"},
		{append([]string{"--set", "worker.image.repository=own"}, scripts...), "own:dev Always"},
		{append([]string{"--set", "worker.image.repository=own,worker.image.tag=v2,worker.image.pullPolicy=Never"}, server...), "own:v2 Never"},
	} {
		for _, made := range containers(mustRender(t, append(c.args, quick...)...)) {
			if at[string](made.owner, "metadata", "labels", "app.kubernetes.io/component") != "worker" {
				continue
			}
			if got := at[string](made.self, "image") + " " + at[string](made.self, "imagePullPolicy"); got != c.want {
				t.Errorf("%v: %s, want %s", c.args, got, c.want)
			}
		}
	}
}

// The wait for the DNS reaches the issuer, in the unit that the API reads.
func TestTheIssuerWaitsForTheDNSAsValuesSay(t *testing.T) {
	t.Parallel()
	if text := declaredBy(t, "-f", "testdata/scripts.yaml"); !strings.Contains(text, "dns_propagation_wait: 30s\n") {
		t.Errorf("declared: %s", text)
	}
	if text := declaredBy(t, "-f", "testdata/acme.yaml", "--set", "server.issuer.acme.dnsPropagationWait="); strings.Contains(text, "dns_propagation_wait") {
		t.Errorf("declared without being asked: %s", text)
	}
}
