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

// verify does what docs/release.md says.
func verify(t *testing.T, dir string) error {
	t.Helper()
	return exec.CommandContext(t.Context(), "sh", "-ec", `cd "$0"
ssh-keygen -Y verify -f allowed_signers -I release@certctl -n certctl-release -s SHA256SUMS.sig < SHA256SUMS
ssh-keygen -Y verify -f allowed_signers -I release@certctl -n certctl-provenance -s provenance.json.sig < provenance.json
sha256sum --strict -c SHA256SUMS`, dir).Run()
}

// A release verifies, and whoever changes a file or signs with another key is
// noticed.
func TestRelease(t *testing.T) {
	t.Parallel()
	dir := copyOf(t, older)
	must(t, verify(t, dir))
	listed := run(t, "cat", filepath.Join(dir, "SHA256SUMS"))
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, entry := range entries {
		name := entry.Name()
		if !strings.Contains(listed, "  "+name+"\n") && !slices.Contains([]string{"SHA256SUMS", "SHA256SUMS.sig", "provenance.json.sig", "allowed_signers"}, name) {
			t.Errorf("%s has no checksum", name)
		}
	}
	for _, file := range []string{"LICENSE", "provenance.json", "SHA256SUMS"} {
		path := filepath.Join(dir, file)
		text, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, append(text[:len(text):len(text)], '\n'), 0o600))
		if verify(t, dir) == nil {
			t.Errorf("a changed %s was not noticed", file)
		}
		must(t, os.WriteFile(path, text, 0o600))
		must(t, verify(t, dir))
	}
	for _, file := range []string{"provenance.json", "SHA256SUMS"} {
		path := filepath.Join(dir, file)
		text, err := os.ReadFile(path + ".sig")
		must(t, err)
		must(t, os.Remove(path+".sig"))
		purpose := map[string]string{"provenance.json": "certctl-provenance", "SHA256SUMS": "certctl-release"}[file]
		run(t, "ssh-keygen", "-Y", "sign", "-q", "-f", key(t), "-n", purpose, path)
		if verify(t, dir) == nil {
			t.Errorf("another's signature of %s was taken", file)
		}
		must(t, os.WriteFile(path+".sig", text, 0o600))
	}
	// A signature is for one thing: the statement's is none of checksums.
	must(t, verify(t, dir))
	run(t, "cp", filepath.Join(dir, "provenance.json"), filepath.Join(dir, "SHA256SUMS"))
	run(t, "cp", filepath.Join(dir, "provenance.json.sig"), filepath.Join(dir, "SHA256SUMS.sig"))
	if verify(t, dir) == nil {
		t.Error("a statement was taken for checksums")
	}
}

// The same commit makes the same bytes in another folder, for another user with
// other settings.
func TestReleaseIsReproducible(t *testing.T) {
	t.Parallel()
	source, err := clone(filepath.Join(t.TempDir(), "a folder of another name"))
	must(t, err)
	goenv, dir := filepath.Join(t.TempDir(), "env"), filepath.Join(t.TempDir(), "release")
	must(t, os.WriteFile(goenv, []byte("GOFLAGS=-gcflags=-l\n"), 0o600))
	cmd := releaseOf(source, "--version", "1.2.3", "--key", of(t, signing), "--out", dir, "--target", "linux/"+runtime.GOARCH, "--program", "certctl-agent,certctl-proxy", "LICENSE")
	cmd.Args = append([]string{"sh", "-ec", `umask 077; exec "$@"`, "sh"}, cmd.Args...)
	cmd.Path, err = exec.LookPath("sh")
	must(t, err)
	cmd.Env = append(cmd.Env, "GOENV="+goenv, "GOFLAGS=-gcflags=-N", "TZ=Asia/Tokyo", "LC_ALL=C", "GOTMPDIR="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run(t, "diff", "-r", of(t, older), dir)
}

// The program is static and says version and commit, and the list of components
// is what `go version -m` says.
func TestReleaseSaysWhatIsInIt(t *testing.T) {
	t.Parallel()
	dir := copyOf(t, older)
	name := filepath.Join(dir, "certctl-agent_1.2.3_linux_"+runtime.GOARCH)
	run(t, "tar", "-C", dir, "-xzf", name+".tar.gz", "certctl-agent")
	binary := filepath.Join(dir, "certctl-agent")
	if got := strings.TrimSpace(run(t, binary, "version")); got != "certctl-agent 1.2.3 (commit "+commit(t, of(t, first))[:12]+", "+runtime.Version()+" linux/"+runtime.GOARCH+")" {
		t.Errorf("the program is %s", got)
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
	dependencies := linked(t, binary)
	if len(dependencies) < 5 || len(bom.Components) != len(dependencies)+1 || bom.Components[0].Name != "std" {
		t.Fatalf("%d components for %d dependencies", len(bom.Components), len(dependencies))
	}
	for i, want := range dependencies {
		if got := bom.Components[i+1]; got.Name != want[1] || got.Version != want[2] || got.PURL != purl(want) {
			t.Errorf("%+v, want %s", got, want[0])
		}
	}
}

// linked are path, version and sum of the modules in a program.
func linked(t *testing.T, binary string) [][]string {
	t.Helper()
	return regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)\th1:(\S+)`).FindAllStringSubmatch(run(t, "go", "version", "-m", binary), -1)
}

func purl(module []string) string {
	return "pkg:golang/" + module[1] + "@" + strings.ReplaceAll(module[2], "+", "%2B")
}

// Nobody can make a release without saying which, without a key, or of something
// that is no commit.
func TestReleaseRefuses(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--version v1.2.3 --key k": "not of the form", "--version 1.2.3": "--key is needed",
		"--version 1.2.3 --key k --target plan9/amd64": "no release for", "--version 1.2.3 --key k --program nope": "no program",
		"build --version 1.2.3": "one --target", "build --version 1.2.3 --target linux/amd64 --key k": "not defined: -key", "packages --version 1.2.3 more": "takes no files",
	} {
		if out, err := releaseOf(root, strings.Fields(args)...).CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s", args, err, out)
		}
	}
	source, err := clone(filepath.Join(t.TempDir(), "source"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(source, "agent", "more.go"), []byte("package agent\n"), 0o600))
	out := filepath.Join(t.TempDir(), "out")
	said, err := releaseOf(source, "--version", "1.2.3", "--key", of(t, signing), "--out", out).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "differ from the commit") {
		t.Errorf("a file more than the commit: %v, %s", err, said)
	}
	must(t, os.RemoveAll(filepath.Join(source, ".git")))
	said, err = releaseOf(source, "--version", "1.2.3", "--key", of(t, signing), "--out", out).CombinedOutput()
	if err == nil || !strings.Contains(string(said), "git does not know") {
		t.Errorf("no commit: %v, %s", err, said)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was made")
	}
}
