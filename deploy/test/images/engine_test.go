//go:build engine

package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

const root = "../../.."

// noEngine is the variable that says that there is no container engine, and that
// this is known. CI does not set it.
const noEngine = "CERTCTL_TEST_NO_ENGINE"

// engine is a dockerd of its own.
type engine struct {
	t         *testing.T
	namespace string
	env       []string
}

// standIns are the images that Compose files name and a test machine cannot pull,
// by the Dockerfile that makes them; "debian" is the first, since others rest on it.
var standIns = []struct {
	name   string
	images []string
}{
	{"debian", []string{"postgres:17-alpine", "nginx:1.28-alpine", "cznic/knot:3.4"}},
	{"nats", []string{"nats:2.15-alpine"}},
	{"haproxy", []string{"haproxy:3.2"}},
	{"curl", []string{"curlimages/curl:8.16.0"}},
	{"prometheus", []string{"prom/prometheus:v3.5.0"}},
	{"step-ca", []string{"smallstep/step-ca:0.30.2"}},
	{"traefik", []string{"traefik:v3.5"}},
}

// startEngine runs a dockerd until the test ends.
func startEngine(t *testing.T) *engine {
	t.Helper()
	if os.Getenv(noEngine) != "" {
		t.Skipf("%s is set: no container engine is started", noEngine)
	}
	if os.Geteuid() != 0 {
		t.Fatalf("these tests start a dockerd in a network namespace, which takes root; %s=1 leaves them out", noEngine)
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		t.Fatalf("there is no dockerd: ./task setup:all installs it; %s=1 leaves these tests out", noEngine)
	}
	dir, err := os.MkdirTemp("", "certctl-images-")
	must(t, err)
	e := &engine{t: t, namespace: fmt.Sprintf("certctl-%d", os.Getpid()), env: append(os.Environ(),
		"DOCKER_HOST=unix://"+dir+"/docker.sock", "DOCKER_CONFIG="+dir+"/config", "DOCKER_BUILDKIT=1")}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	plugins := filepath.Join(dir, "config", "cli-plugins")
	must(t, os.MkdirAll(plugins, 0o755))
	compose, err := filepath.Abs(filepath.Join(root, ".task", "docker-compose"))
	must(t, err)
	must(t, os.Symlink(compose, filepath.Join(plugins, "docker-compose")))
	e.run("ip", "netns", "add", e.namespace)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", e.namespace).Run() })
	e.run("ip", "-n", e.namespace, "link", "set", "lo", "up")
	daemon, err := local.Start(local.Command{
		Args: []string{"nsenter", "--net=/run/netns/" + e.namespace, "dockerd", "--host", "unix://" + dir + "/docker.sock",
			"--data-root", dir + "/data", "--exec-root", dir + "/run", "--pidfile", dir + "/docker.pid",
			"--storage-driver", "overlay2", "--exec-opt", "native.cgroupdriver=cgroupfs"},
		LogFile: filepath.Join(dir, "dockerd.log"), Name: "dockerd", Env: os.Environ(), Grace: 30 * time.Second,
	})
	must(t, err)
	t.Cleanup(func() {
		if err := daemon.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Log(err)
		}
	})
	must(t, daemon.Ready(t.Context(), func(ctx context.Context) error {
		return e.command(ctx, "docker", "version").Run()
	}))
	return e
}

// command is one with the engine's environment. Debian's client comes first: a
// newer one wants a plugin to build with BuildKit.
func (e *engine) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if name == "docker" {
		name = "/usr/bin/docker"
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = e.env, root
	return cmd
}

// run returns what a command says, which must succeed.
func (e *engine) run(name string, args ...string) string {
	e.t.Helper()
	out, err := e.try(name, args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

func (e *engine) try(name string, args ...string) (string, error) {
	// Also when the test has ended: what it started is stopped then.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.t.Context()), 5*time.Minute)
	defer cancel()
	var errs bytes.Buffer
	cmd := e.command(ctx, name, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return strings.TrimSpace(string(out)), err
}

// until asks until the answer is yes.
func (e *engine) until(what string, patience time.Duration, done func() bool) {
	e.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			e.t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// build makes the images, and the stand-ins.
func (e *engine) build() {
	e.t.Helper()
	context := e.t.TempDir()
	must(e.t, os.CopyFS(context, os.DirFS("testdata")))
	must(e.t, local.Build(e.t.Context(), root, context, local.NATSPackage, "./deploy/test/images/traefik"))
	must(e.t, os.Link(e.rootfs(), filepath.Join(context, "rootfs.tar")))
	prometheus, err := exec.LookPath("prometheus")
	must(e.t, err)
	e.run("cp", prometheus, ".task/step", ".task/step-ca", context)
	for _, s := range standIns {
		e.run("docker", "build", "-q", "-f", filepath.Join(context, s.name+".Dockerfile"), "-t", s.images[0], context)
		for _, image := range s.images[1:] {
			e.run("docker", "tag", s.images[0], image)
		}
	}
	for file, image := range map[string]string{
		"server": "certctl-server:dev", "server-shell": "certctl-server:dev-shell", "agent": "certctl-agent:dev", "proxy": "certctl-proxy:dev",
		"cli": "certctl:dev", "pebble": "certctl-pebble:dev",
	} {
		e.run("docker", "build", "-q", "--build-arg", "TARGETARCH=amd64", "-f", "deploy/docker/"+file+".Dockerfile", "-t", image, ".")
	}
}

// standInPackages are what the stand-ins need of Debian's.
const standInPackages = "curl,haproxy,knot,libcap2-bin,nginx-light,postgresql-15"

// rootfs is a Debian with the programs of the stand-ins, which is kept for later
// runs: it takes two minutes to make.
func (e *engine) rootfs() string {
	e.t.Helper()
	path, err := filepath.Abs(filepath.Join(root, ".task", "standins-"+standInPackages+".tar"))
	must(e.t, err)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	e.run("mmdebstrap", "--quiet", "--variant=minbase", "--include="+standInPackages, "bookworm", path+".new.tar")
	must(e.t, os.Rename(path+".new.tar", path))
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// signal sends one to the first process of a container.
func (e *engine) signal(container string, s syscall.Signal) {
	e.t.Helper()
	var pid int
	if _, err := fmt.Sscan(e.run("docker", "inspect", "-f", "{{.State.Pid}}", container), &pid); err != nil || pid < 2 {
		e.t.Fatal(errors.Join(err, fmt.Errorf("%s has no process", container)))
	}
	must(e.t, syscall.Kill(pid, s))
}
