//go:build engine

package images

import (
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// An image for another architecture says that it is, and every label is there.
func TestImageForARM64(t *testing.T) { //nolint:paralleltest // an engine of its own
	e := startEngine(t)
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", "bin/linux-arm64/", "./cmd/certctl")
	build.Dir, build.Env = root, append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	e.run("docker", "build", "-q", "--platform", "linux/arm64", "--build-arg", "TARGETARCH=arm64", "--build-arg", "VERSION=1.2.3",
		"--build-arg", "REVISION=abc", "--build-arg", "CREATED=2026-01-02T03:04:05Z", "-f", "deploy/docker/cli.Dockerfile", "-t", "certctl:arm64", ".")
	if got := e.run("docker", "inspect", "-f", "{{.Os}}/{{.Architecture}}", "certctl:arm64"); got != "linux/arm64" {
		t.Errorf("the image is for %s", got)
	}
	labels := map[string]string{}
	must(t, json.Unmarshal([]byte(e.run("docker", "inspect", "-f", "{{json .Config.Labels}}", "certctl:arm64")), &labels))
	for label, want := range map[string]string{
		"title": "certctl", "description": "", "url": "", "source": "", "documentation": "", "vendor": "certctl", "licenses": "Apache-2.0",
		"version": "1.2.3", "revision": "abc", "created": "2026-01-02T03:04:05Z",
	} {
		if got := labels["org.opencontainers.image."+label]; got == "" || want != "" && got != want {
			t.Errorf("the label %s is %q", label, got)
		}
	}
	// What is in it is for that architecture, too.
	dir := t.TempDir()
	id := e.run("docker", "create", "--platform", "linux/arm64", "certctl:arm64")
	e.run("docker", "cp", id+":/certctl", filepath.Join(dir, "certctl"))
	if got, err := machineOf(filepath.Join(dir, "certctl")); err != nil || got != "EM_AARCH64" {
		t.Errorf("the program in it is for %s, %v", got, err)
	}
}

func machineOf(path string) (string, error) {
	program, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	return program.Machine.String(), program.Close()
}
