//go:build engine

package images

import (
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
		"certctl-server": "[CMD /certctl-server health] 1000:1000", "certctl-agent": "[CMD /certctl-agent health] 1000:1000",
		"certctl-proxy": "[CMD /certctl-proxy health] 1000:1000",
		"certctl":       "[NONE] 1000:1000",
	} {
		if got := e.run("docker", "inspect", "-f", "{{.Config.Healthcheck.Test}} {{.Config.User}}", image+":dev"); got != want {
			e.t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
	// Without a database nothing can run, and the container says what is missing.
	if out, err := e.try("docker", "run", "--rm", "certctl-server:dev"); err == nil || !strings.Contains(err.Error(), "CERTCTL_DATABASE_URL") {
		e.t.Errorf("a server without settings: %v, %s", err, out)
	}
	if out, err := e.try("docker", "run", "--rm", "certctl-agent:dev"); err == nil || !strings.Contains(err.Error(), "enroll") {
		e.t.Errorf("an agent without settings: %v, %s", err, out)
	}
	if out, err := e.try("docker", "run", "--rm", "certctl-proxy:dev"); err == nil || !strings.Contains(err.Error(), "enroll") {
		e.t.Errorf("a proxy without settings: %v, %s", err, out)
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
