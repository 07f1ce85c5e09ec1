//go:build engine

package packages

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

// The statement of a release is one that in-toto's own library takes, and says the
// truth about every file that it was made with, the commit, the toolchain and each
// module. It says nothing of a file that was only put beside them.
func TestProvenance(t *testing.T) {
	t.Parallel()
	dir := copyOf(t, older)
	statement, of := statementOf(t, dir)
	sums := map[string]string{}
	for line := range strings.Lines(run(t, "cat", filepath.Join(dir, "SHA256SUMS"))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sums[name] = sum
	}
	if sums["LICENSE"] == "" {
		t.Error("the further file has no checksum")
	}
	delete(sums, "LICENSE")
	delete(sums, "provenance.json")
	if len(statement.GetSubject()) != len(sums) || len(sums) < 3 {
		t.Errorf("%d subjects, %d checksums", len(statement.GetSubject()), len(sums))
	}
	for _, subject := range statement.GetSubject() {
		if subject.GetDigest()["sha256"] != sums[subject.GetName()] {
			t.Errorf("%s has another sum in the statement", subject.GetName())
		}
	}

	source, err := first()
	must(t, err)
	head := commit(t, source)
	want := map[string]string{"git+https://github.com/certctl/certctl@" + head: head}
	for _, program := range []string{"certctl-agent", "certctl-proxy"} {
		run(t, "tar", "-C", dir, "-xzf", filepath.Join(dir, program+"_1.2.3_linux_"+runtime.GOARCH+".tar.gz"), program)
		for _, module := range linked(t, filepath.Join(dir, program)) {
			hash, err := base64.StdEncoding.DecodeString(module[3])
			must(t, err)
			want[purl(module)] = hex.EncodeToString(hash)
		}
	}
	for _, tool := range []string{"compile", "link"} {
		program, err := os.ReadFile(strings.TrimSpace(run(t, "go", "tool", "-n", tool)))
		must(t, err)
		hash := sha256.Sum256(program)
		want[tool+" for "+runtime.GOOS+"/"+runtime.GOARCH] = hex.EncodeToString(hash[:])
	}
	want["pkg:golang/std@"+strings.TrimPrefix(runtime.Version(), "go")] = ""
	for _, dependency := range of.GetBuildDefinition().GetResolvedDependencies() {
		name, digest := dependency.GetUri(), ""
		if name == "" {
			name = dependency.GetName()
		}
		for _, value := range dependency.GetDigest() {
			digest = value
		}
		if expected, listed := want[name]; !listed || digest != expected {
			t.Errorf("%s %s, want %q", name, digest, expected)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("not named: %v", want)
	}
	if got := of.GetBuildDefinition().GetExternalParameters().AsMap(); got["version"] != "1.2.3" {
		t.Errorf("%v", got)
	}
}

// statementOf reads one as strictly as in-toto does: what its schema lacks is an
// error.
func statementOf(t *testing.T, dir string) (*intoto.Statement, *provenance.Provenance) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "provenance.json"))
	must(t, err)
	statement, predicate := &intoto.Statement{}, &provenance.Provenance{}
	must(t, protojson.Unmarshal(text, statement))
	must(t, statement.Validate())
	if got := statement.GetPredicateType(); got != "https://slsa.dev/provenance/v1" {
		t.Errorf("a statement of %s", got)
	}
	inner, err := protojson.Marshal(statement.GetPredicate())
	must(t, err)
	must(t, protojson.Unmarshal(inner, predicate))
	must(t, predicate.Validate())
	return statement, predicate
}
