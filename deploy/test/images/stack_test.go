//go:build engine

package images

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// The images are built, inspected and run as a user of docker-compose.yml does.
func TestImagesAndStack(t *testing.T) { //nolint:paralleltest // one engine for all
	e := startEngine(t)
	e.build()
	e.inspect()
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := e.try("docker", "compose", "logs", "--no-color", "--tail", "20")
			t.Log(logs)
		}
		_, _ = e.try("docker", "compose", "down", "-v", "--timeout", "5")
	})
	e.run("docker", "compose", "up", "-d")
	e.until("the first certificate is verified", 2*time.Minute, func() bool {
		status, _ := e.try("docker", "compose", "run", "--rm", "--no-deps", "-T", "certificate", "certificates", "status", "web")
		return strings.Contains(status, "verified on web")
	})
	e.served()
	// Once more: nothing is made twice.
	e.run("docker", "compose", "up", "-d")
	if versions := e.run("docker", "compose", "run", "--rm", "--no-deps", "-T", "certificate", "versions", "list", "--certificate", "web"); strings.Count(versions, "\n") != 1 {
		t.Errorf("after a second start: %s", versions)
	}
	e.noticed()
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

// served holds what nginx serves against the chain in the API.
func (e *engine) served() {
	e.t.Helper()
	chain := e.run("docker", "compose", "run", "--rm", "--no-deps", "-T", "certificate", "certificates", "chain", "web")
	shown := e.run("nsenter", "--net=/run/netns/"+e.namespace, "openssl", "s_client", "-connect", "127.0.0.1:9443", "-servername", "localhost", "-showcerts")
	begin, end := strings.Index(shown, "-----BEGIN"), strings.Index(shown, "-----END")
	if begin < 0 || end < begin || !strings.HasPrefix(chain, shown[begin:end]) {
		e.t.Errorf("served: %s\nin the API: %s", shown, chain)
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
