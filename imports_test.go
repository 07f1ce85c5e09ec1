package certctl_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/certctl/certctl"

// tree is a set of packages of this module: those at the paths and below.
// The empty path is the root package alone.
type tree []string

func (t tree) has(pkg string) bool {
	return slices.ContainsFunc(t, func(path string) bool {
		return pkg == path || path != "" && strings.HasPrefix(pkg, path+"/")
	})
}

// owned lists the libraries that only one part of the program may import, so
// that one place knows them and one place changes when they do. A library means
// its module and all packages in it. Tests may use what they like.
var owned = []struct {
	library string
	owners  tree
}{
	{"github.com/jackc", tree{"store"}},
	{"github.com/pressly/goose", tree{"store"}},
	{"github.com/nats-io/nats.go", tree{"bus", "examples/events"}},
	{"github.com/nats-io/jwt", tree{"bus"}},
	{"github.com/nats-io/nkeys", tree{"bus"}},
	{"github.com/synadia-io/orbit.go", tree{"bus"}},
	{"github.com/nats-io/nats-server", tree{"bus/broker", "bus/bustest"}},
	{"github.com/gorilla/mux", tree{"api"}},
	{"github.com/getkin/kin-openapi", tree{"api"}},
	{"github.com/oapi-codegen", tree{"api"}},
	{"github.com/zmap", tree{"handlers/ca"}},
	{"github.com/go-acme/lego", tree{"handlers/issuer/acme"}},
	{"github.com/miekg/dns", tree{"handlers/issuer/acme"}},
	{"github.com/letsencrypt", tree{"handlers/issuer/acme/acmetest"}},
	{"github.com/wneessen/go-mail", tree{"handlers/notifier"}},
	{"github.com/alecthomas/kong", tree{"cmd"}},
	{"github.com/pavlo-v-chernykh/keystore-go", tree{"agent/target"}},
	{"github.com/pkg/sftp", tree{"agent/target/remote"}},
	{"golang.org/x/crypto/ssh", tree{"agent/target/remote"}},
	{"github.com/aws", tree{"agent/target/remote"}},
	{"cloud.google.com/go", tree{"agent/target/remote"}},
	{"golang.org/x/sys", tree{"agent/target/unixsock", "deploy/test/images/traefik"}},
	{"github.com/envoyproxy", tree{"agent/target/remote/sds"}},
	{"google.golang.org/grpc", tree{"agent/target/remote/sds"}},
	{"testing", tree{"store/storetest", "bus/bustest", "handlers/issuer/acme/acmetest", "handlers/issuer/issuertest", "agent/target/targettest"}},
}

// directions says which packages of this module a part may import, besides its
// own: imports point one way. The first rule that has the package decides; a
// package without a rule (cmd, deploy) may import all.
var directions = []struct {
	part tree
	may  tree
}{
	{tree{""}, tree{}},
	{tree{"migrations"}, tree{}},
	{tree{"store/storetest"}, tree{"deploy/local"}},
	{tree{"store"}, tree{"", "migrations"}},
	{tree{"bus"}, tree{""}},
	{tree{"handlers/ca"}, tree{""}},
	{tree{"handlers/issuer/local"}, tree{"", "handlers/issuer", "handlers/ca"}},
	{tree{"handlers/issuer"}, tree{"", "handlers/egress"}},
	{tree{"handlers/egress"}, tree{""}},
	{tree{"handlers/notifier"}, tree{"", "handlers/egress"}},
	{tree{"handlers"}, tree{"", "bus"}},
	{tree{"agent/target", "agent/probe", "agent/discover"}, tree{""}},
	{tree{"agent"}, tree{"", "bus"}},
	{tree{"api"}, tree{"", "bus"}},
	{tree{"deploy/local"}, tree{}},
}

// absent lists what a part must not reach even through others.
var absent = []struct {
	part    tree
	reason  string
	library []string
}{
	{
		tree{"cmd/certctl-agent"}, "the agent runs on every node and stays small",
		[]string{
			"github.com/jackc", "github.com/pressly/goose", "github.com/go-acme/lego", "github.com/gorilla/mux",
			"github.com/getkin/kin-openapi", "github.com/nats-io/nats-server", "github.com/zmap",
			"github.com/aws", "github.com/Azure", "cloud.google.com", "google.golang.org/grpc", "k8s.io",
			"github.com/pkg/sftp", "golang.org/x/crypto/ssh", module + "/agent/target/remote",
		},
	},
	{
		tree{"handlers/ca"}, "the signer's engine talks to nobody",
		[]string{"database/sql", "github.com/jackc", "github.com/nats-io"},
	},
	{tree{"cmd/certctl-server"}, "the server knows the settings only", []string{"github.com/envoyproxy"}},
	{tree{"cmd"}, "a CA for tests belongs into no program", []string{"github.com/letsencrypt"}},
	{tree{"agent"}, "the embedded broker adds 10 MB", []string{"github.com/nats-io/nats-server"}},
}

// goPackage is what go list says about a package.
type goPackage struct {
	Deps       []string
	ImportPath string
	Imports    []string
	Standard   bool
}

// listed runs go list once for all tests.
var listed = sync.OnceValues(func() (map[string]goPackage, error) {
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=Deps,ImportPath,Imports,Standard", "./...")
	output, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	packages := make(map[string]goPackage)
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var pkg goPackage
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages[pkg.ImportPath] = pkg
	}
})

// ours calls check with each package of this module and its path in it.
func ours(t *testing.T, check func(name string, pkg goPackage)) {
	t.Helper()
	packages, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	for importPath, pkg := range packages {
		if name, ok := inModule(importPath); ok {
			check(name, pkg)
		}
	}
}

func inModule(importPath string) (name string, ok bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

func isIn(library, importPath string) bool {
	return importPath == library || strings.HasPrefix(importPath, library+"/")
}

func TestImportsOfLibrariesHaveOneOwner(t *testing.T) {
	t.Parallel()
	ours(t, func(name string, pkg goPackage) {
		for _, rule := range owned {
			for _, imported := range pkg.Imports {
				if isIn(rule.library, imported) && !rule.owners.has(name) {
					t.Errorf("%q imports %s, which is for %v", name, imported, rule.owners)
				}
			}
		}
	})
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	ours(t, func(name string, pkg goPackage) {
		for _, rule := range directions {
			if !rule.part.has(name) {
				continue
			}
			for _, imported := range pkg.Imports {
				other, ok := inModule(imported)
				if ok && !rule.part.has(other) && !rule.may.has(other) {
					t.Errorf("%q imports %q; besides its own part it may import %q", name, other, rule.may)
				}
			}
			return
		}
	})
}

func TestImportsOfTheRootAreTheStandardLibrary(t *testing.T) {
	t.Parallel()
	packages, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	for _, imported := range packages[module].Deps {
		if !packages[imported].Standard {
			t.Errorf("the vocabulary depends on %s", imported)
		}
	}
}

func TestImportsStayAbsent(t *testing.T) {
	t.Parallel()
	ours(t, func(name string, pkg goPackage) {
		for _, rule := range absent {
			if !rule.part.has(name) {
				continue
			}
			for _, library := range rule.library {
				if slices.ContainsFunc(pkg.Deps, func(dep string) bool { return isIn(library, dep) }) {
					t.Errorf("%q links %s, though %s", name, library, rule.reason)
				}
			}
		}
	})
}

// The CA's engine must not talk, but its linter's libraries contain code that
// could: what counts is what the engine's own files import.
func TestImportsOfTheCATalkToNobody(t *testing.T) {
	t.Parallel()
	engine := tree{"handlers/ca"}
	ours(t, func(name string, pkg goPackage) {
		for _, talks := range []string{"net/http", "net/rpc", "net/smtp", "net/textproto", "os/exec"} {
			if engine.has(name) && slices.Contains(pkg.Imports, talks) {
				t.Errorf("%q imports %s", name, talks)
			}
		}
	})
}

// Major versions are part of a library's path; the rules above name none, so
// that an upgrade does not switch one off.
func TestImportRulesNameNoVersions(t *testing.T) {
	t.Parallel()
	for _, rule := range owned {
		if last := path.Base(rule.library); len(last) == 2 && last[0] == 'v' {
			t.Errorf("the rule for %s holds for one version only", rule.library)
		}
	}
}
