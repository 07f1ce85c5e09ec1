//go:build engine

package images

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The images are built, inspected and run as users of the Compose files do.
func TestContainers(t *testing.T) { //nolint:paralleltest // one engine for all
	e := startEngine(t)
	e.build()
	for _, test := range []struct { //nolint:paralleltest // one after the other
		name string
		run  func(e *engine)
	}{
		{"images", (*engine).inspect},
		{"stack", testStack},
		{"production", testProduction},
		{"acme-nginx", testACMENginx},
		{"acme-wildcard-dns01", testACMEWildcard},
		{"private-ca-haproxy", testPrivateCAHAProxy},
		{"private-ca-traefik", testPrivateCATraefik},
		{"step-ca-haproxy", testStepCAHAProxy},
		{"multi-issuer", testMultiIssuer},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := *e
			in.t = t
			test.run(&in)
		})
	}
}

// testStack runs docker-compose.yml with the overlay for observability.
func testStack(e *engine) {
	p := e.project("certctl", nil, "-f", "docker-compose.yml", "-f", "deploy/compose/observability.yml")
	// Grafana is not to be had from where the stand-ins come.
	up := []string{"up", "-d", "prometheus", "certificate", "scheduler", "worker"}
	p.compose(up...)
	p.verified("web", "web")
	p.serves("web", "127.0.0.1:9443", "localhost")
	// Once more: nothing is made twice.
	p.compose(up...)
	if versions := p.certctl("versions", "list", "--certificate", "web"); strings.Count(versions, "\n") != 1 {
		p.t.Errorf("after a second start: %s", versions)
	}
	p.watched()
	p.noticed()
}

// inspect holds the images against what they promise.
func (e *engine) inspect() {
	e.t.Helper()
	for image, want := range map[string]string{
		"certctl-server:dev":       "[CMD /certctl-server health] 1000:1000",
		"certctl-server:dev-shell": "[CMD /certctl-server health] 1000:1000",
		"certctl-agent:dev":        "[CMD /certctl-agent health] 1000:1000",
		"certctl-proxy:dev":        "[CMD /certctl-proxy health] 1000:1000",
		"certctl:dev":              "[NONE] 1000:1000",
	} {
		if got := e.run("docker", "inspect", "-f", "{{.Config.Healthcheck.Test}} {{.Config.User}}", image); got != want {
			e.t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
	// Without a database nothing can run, and the container says what is missing.
	for _, image := range []string{"certctl-server:dev", "certctl-server:dev-shell"} {
		if out, err := e.try("docker", "run", "--rm", image); err == nil || !strings.Contains(err.Error(), "CERTCTL_DATABASE_URL") {
			e.t.Errorf("%s without settings: %v, %s", image, err, out)
		}
	}
	e.runsScripts()
	if out, err := e.try("docker", "run", "--rm", "certctl-agent:dev"); err == nil || !strings.Contains(err.Error(), "enroll") {
		e.t.Errorf("an agent without settings: %v, %s", err, out)
	}
	if out, err := e.try("docker", "run", "--rm", "certctl-proxy:dev"); err == nil || !strings.Contains(err.Error(), "enroll") {
		e.t.Errorf("a proxy without settings: %v, %s", err, out)
	}
}

// runsScripts runs a DNS script as a worker does, as the user and with the root file
// system that a worker has. Where there is no shell it cannot run.
func (e *engine) runsScripts() {
	e.t.Helper()
	dir := e.t.TempDir()
	must(e.t, os.Chmod(dir, 0o755)) //nolint:gosec // the container's user looks into it
	const script = "#!/bin/sh\nset -eu\n[ \"$1\" = present ]\n! touch /x 2>/dev/null\ncurl --version >/dev/null\nid -u\n"
	must(e.t, os.WriteFile(filepath.Join(dir, "dns"), []byte(script), 0o755)) //nolint:gosec // likewise
	run := func(image string) (string, error) {
		return e.try("docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "-v", dir+":/scripts:ro",
			"--entrypoint", "/scripts/dns", image, "present", "_acme-challenge.example.com", "value")
	}
	if user, err := run("certctl-server:dev-shell"); err != nil || user != "1000" {
		e.t.Errorf("a script ran as %q, %v", user, err)
	}
	if out, err := run("certctl-server:dev"); err == nil {
		e.t.Errorf("the image without a shell ran a script: %s", out)
	}
}

// noticed stops processes in their containers: they hang, and their health checks
// fail until they go on.
func (e *engine) noticed() {
	e.t.Helper()
	containers := []string{"certctl-api-1", "certctl-agent-1", "certctl-worker-1"}
	for _, container := range containers {
		e.healthy(container, "healthy")
		e.signal(container, syscall.SIGSTOP)
	}
	for _, container := range containers {
		e.healthy(container, "unhealthy")
		e.signal(container, syscall.SIGCONT)
	}
	for _, container := range containers {
		e.healthy(container, "healthy")
	}
}

func (e *engine) healthy(container, want string) {
	e.t.Helper()
	e.until(container+" is "+want, 2*time.Minute, func() bool {
		return e.run("docker", "inspect", "-f", "{{.State.Health.Status}}", container) == want
	})
}
