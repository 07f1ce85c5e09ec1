//go:build chart

package chart

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/store/storetest"
)

// readable gives settings that name a secret's file one that is there: the programs
// read those at once.
func readable(t *testing.T, env []string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("postgres://x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, entry := range env {
		if name, _, _ := strings.Cut(entry, "="); slices.Contains([]string{"CERTCTL_DATABASE_URL_FILE", "CERTCTL_TOKEN_FILE", "CERTCTL_SMTP_PASSWORD_FILE"}, name) {
			env[i] = name + "=" + file
		}
	}
	return env
}

// Every setting that the chart makes is one that the program knows, and all of a
// pod's together are possible.
func TestEverySettingIsReadByTheProgram(t *testing.T) {
	t.Parallel()
	checks := map[string][]string{"server": {"config", "check"}, "agent": {"policy", "check"}}
	for name, args := range valuesFiles(t) {
		seen := 0
		for _, c := range containers(mustRender(t, args...)) {
			image, own := at[string](c.self, "image"), at[[]any](c.self, "command")
			for program, check := range checks {
				if !strings.HasPrefix(image, "certctl-"+program+":") && !slices.Contains(own, any("/program/certctl-"+program)) {
					continue
				}
				seen++
				cmd := exec.CommandContext(t.Context(), filepath.Join(binaries(t), "certctl-"+program), check...)
				cmd.Env = readable(t, c.environment())
				if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "has no effect") {
					t.Errorf("%s: %s: %v\n%s", name, c, err, out)
				}
			}
		}
		want := 6
		if name == "backup.yaml" {
			want++
		}
		if seen != want {
			t.Errorf("%s: %d containers with settings", name, seen)
		}
	}
}

// The paths of the probes are asked of a running server.
func TestEveryProbePathIsThere(t *testing.T) {
	t.Parallel()
	port, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	bus, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	server := &local.Server{
		Binary: filepath.Join(binaries(t), "certctl-server"), Dir: t.TempDir(), DatabaseURL: storetest.URL(t), Listen: local.Loopback(port),
		Env: []string{"CERTCTL_NATS_LISTEN=" + local.Loopback(bus), "CERTCTL_PKI_URL=http://pki.example.com"},
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	client, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, c := range containers(mustRender(t, quick...)) {
		for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
			path := at[string](c.self, probe, "httpGet", "path")
			if path == "" {
				continue
			}
			asked++
			response, err := client.Get(server.URL() + path)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("%s: %s answers %s", c, path, response.Status)
			}
		}
	}
	if asked != 3 {
		t.Errorf("%d probes over HTTPS", asked)
	}
}
