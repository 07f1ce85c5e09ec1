//go:build engine

package packages

import (
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// key makes one that releases are signed with.
func key(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "somebody", "-f", path)
	return path
}

// makeRelease makes a small release from a copy of what is here, in a folder of a
// name that no other has.
func makeRelease(t *testing.T, version, key string) (dir string) {
	t.Helper()
	source, dir := t.TempDir(), filepath.Join(t.TempDir(), "release")
	run(t, "sh", "-c", `cd "$0" && git ls-files -z -co --exclude-standard | tar --null -T - -c | tar -C "$1" -x`, root, source)
	cmd := exec.CommandContext(t.Context(), "go", "run", "./deploy/release", "--version", version, "--key", key, "--out", dir,
		"--target", "linux/"+runtime.GOARCH, "--program", "certctl-agent", "LICENSE")
	cmd.Dir, cmd.Env = source, append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// A release verifies as docs/packages.md says, is the same when it is built
// elsewhere, and says what is in it.
func TestRelease(t *testing.T) {
	t.Parallel()
	signing := key(t)
	dir := makeRelease(t, "1.2.3", signing)
	verify := func() error {
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", `cd "$0"
ssh-keygen -Y verify -f allowed_signers -I release@certctl -n certctl-release -s SHA256SUMS.sig < SHA256SUMS
sha256sum --strict -c SHA256SUMS`, dir)
		return cmd.Run()
	}
	must(t, verify())
	listed := run(t, "cat", filepath.Join(dir, "SHA256SUMS"))
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, entry := range entries {
		name := entry.Name()
		if !strings.Contains(listed, "  "+name+"\n") && !slices.Contains([]string{"SHA256SUMS", "SHA256SUMS.sig", "allowed_signers"}, name) {
			t.Errorf("%s has no checksum", name)
		}
	}
	run(t, "diff", "-r", dir, makeRelease(t, "1.2.3", signing))
	holdSBOM(t, dir)

	// Who changes a file, or signs with another key, is noticed.
	must(t, os.WriteFile(filepath.Join(dir, "LICENSE"), []byte("mine"), 0o600))
	if verify() == nil {
		t.Error("a changed file was not noticed")
	}
	run(t, "cp", filepath.Join(root, "LICENSE"), dir)
	must(t, verify())
	must(t, os.Remove(filepath.Join(dir, "SHA256SUMS.sig")))
	run(t, "ssh-keygen", "-Y", "sign", "-q", "-f", key(t), "-n", "certctl-release", filepath.Join(dir, "SHA256SUMS"))
	if verify() == nil {
		t.Error("another's signature was taken")
	}
}

// holdSBOM compares the list of components with what `go version -m` says.
func holdSBOM(t *testing.T, dir string) {
	t.Helper()
	name := filepath.Join(dir, "certctl-agent_1.2.3_linux_"+runtime.GOARCH)
	run(t, "tar", "-C", dir, "-xzf", name+".tar.gz", "certctl-agent")
	binary := filepath.Join(dir, "certctl-agent")
	if got := strings.TrimSpace(run(t, binary, "version")); got != "1.2.3" {
		t.Errorf("the program is version %s", got)
	}
	program, err := elf.Open(binary)
	must(t, err)
	defer program.Close()
	if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("not static: %v, %v", libraries, err)
	}
	var bom struct {
		BOMFormat, SpecVersion string
		Metadata               struct {
			Component struct{ Name, Version string }
		}
		Components []struct {
			Name, Version, PURL string
		}
	}
	text, err := os.ReadFile(name + ".cdx.json")
	must(t, err)
	must(t, json.Unmarshal(text, &bom))
	if bom.BOMFormat != "CycloneDX" || bom.Metadata.Component.Name != "certctl-agent" || bom.Metadata.Component.Version != "v1.2.3" {
		t.Errorf("%+v", bom)
	}
	dependencies := regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)`).FindAllStringSubmatch(run(t, "go", "version", "-m", binary), -1)
	if len(dependencies) < 5 || len(bom.Components) != len(dependencies)+1 || bom.Components[0].Name != "std" {
		t.Fatalf("%d components for %d dependencies", len(bom.Components), len(dependencies))
	}
	for i, want := range dependencies {
		if got := bom.Components[i+1]; got.Name != want[1] || got.Version != want[2] || got.PURL != "pkg:golang/"+want[1]+"@"+strings.ReplaceAll(want[2], "+", "%2B") {
			t.Errorf("%+v, want %s", got, want[0])
		}
	}
	must(t, os.Remove(binary))
}

// Nobody can make a release without saying which, or without a key.
func TestReleaseRefuses(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--version v1.2.3 --key k": "not of the form", "--version 1.2.3": "--key is needed",
		"--version 1.2.3 --key k --target plan9/amd64": "no release for", "--version 1.2.3 --key k --program nope": "no program",
	} {
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"run", "./deploy/release"}, strings.Fields(args)...)...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s", args, err, out)
		}
	}
}
