//go:build chart

package chart

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/store/storetest"
)

// What the CronJob's containers run, in folders of this machine for their
// volumes: the program is copied, and the copy makes a backup and removes old ones.
func TestTheBackupJobMakesABackup(t *testing.T) {
	t.Parallel()
	url := storetest.URL(t)
	port, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	bus, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	server := &local.Server{
		Binary: filepath.Join(binaries(t), "certctl-server"), Dir: t.TempDir(), DatabaseURL: url, Listen: local.Loopback(port),
		Env: []string{"CERTCTL_NATS_LISTEN=" + local.Loopback(bus), "CERTCTL_PKI_URL=http://pki.example.com"},
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer server.Kill()

	var job container
	for _, c := range containers(mustRender(t, append([]string{"-f", "testdata/backup.yaml", "--set", "backup.retention=2"}, quick...)...)) {
		if c.owner.kind() == "CronJob" {
			job = c
		}
	}
	if job.self == nil {
		t.Fatal("there is no CronJob")
	}
	volumes := t.TempDir()
	mounted := strings.NewReplacer("/program", filepath.Join(volumes, "program"), "/backups", filepath.Join(volumes, "backups"))
	for _, folder := range []string{"program", "backups"} {
		if err := os.Mkdir(filepath.Join(volumes, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	words := func(container any, key string) (all []string) {
		for _, word := range at[[]any](container, key) {
			all = append(all, mounted.Replace(word.(string)))
		}
		return all
	}
	run := func(env []string, program string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env = append(env, "PATH="+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, out)
		}
	}
	run(nil, filepath.Join(binaries(t), "certctl-server"), words(at[[]any](job.spec, "initContainers")[0], "args")...)
	env := slices.DeleteFunc(job.environment(), func(entry string) bool { return strings.HasPrefix(entry, "CERTCTL_DATABASE_URL=") })
	for n := range 3 {
		run(append(env, "CERTCTL_DATABASE_URL="+url), words(job.self, "command")[0], words(job.self, "args")...)
		dateBack(t, filepath.Join(volumes, "backups"), n)
	}
	left, err := filepath.Glob(filepath.Join(volumes, "backups", "certctl-*.backup"))
	if err != nil || len(left) != 2 {
		t.Errorf("%v are left of three backups, %v", left, err)
	}
}

// dateBack gives the newest backup of a folder a name from long ago: names have
// the second in which they were made, and no test waits for the next.
func dateBack(t *testing.T, folder string, n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.backup"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	newest := files[len(files)-1]
	prefix := strings.TrimSuffix(newest, newest[strings.LastIndex(newest, "-")+1:])
	if err := os.Rename(newest, fmt.Sprintf("%s2000010%dT000000Z.backup", prefix, n+1)); err != nil {
		t.Fatal(err)
	}
}
