//go:build chart

package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/store"
	"github.com/certctl/certctl/store/storetest"
	"go.yaml.in/yaml/v3"
)

const (
	root = "../../.."
	dir  = root + "/deploy/helm/certctl"
)

// quick is what the quick start sets.
var quick = []string{"--set", "server.auth.apiKey=0123456789abcdef0123456789abcdef", "--set", "postgresql.auth.password=pass:word"}

// object is one of Kubernetes, as YAML has it.
type object map[string]any

func (o object) kind() string { return o["kind"].(string) }
func (o object) name() string { return at[string](o, "metadata", "name") }

// at follows keys into nested maps; the zero value when there is nothing.
func at[T any](value any, keys ...string) T {
	for _, key := range keys {
		switch m := value.(type) {
		case map[string]any:
			value = m[key]
		case object:
			value = m[key]
		default:
			value = nil
		}
	}
	found, _ := value.(T)
	return found
}

func TestMain(m *testing.M) { storetest.Main(m, store.Migrate) }

// helm runs it, with no other files of the user.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(root, ".task", "helm"))
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "KUBECONFIG="+home+"/none")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		if errors.As(err, new(*exec.Error)) {
			t.Fatalf("%v: ./task test:chart builds it", err)
		}
		return string(out), fmt.Errorf("%w\n%s", err, errs.String())
	}
	return string(out), nil
}

// render is what helm template makes of the chart.
func render(t *testing.T, args ...string) ([]object, error) {
	t.Helper()
	return renderAs(t, "certctl", args...)
}

func renderAs(t *testing.T, release string, args ...string) ([]object, error) {
	t.Helper()
	out, err := helm(t, append([]string{"template", release, dir, "--namespace", "pki"}, args...)...)
	if err != nil {
		return nil, err
	}
	var objects []object
	for decoder := yaml.NewDecoder(strings.NewReader(out)); ; {
		var one map[string]any // not an object, or all maps in it would be objects
		if err := decoder.Decode(&one); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			t.Fatal(err)
		}
		if one != nil {
			objects = append(objects, one)
		}
	}
}

func mustRender(t *testing.T, args ...string) []object {
	t.Helper()
	objects, err := render(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// container is one with the object whose pods have it.
type container struct {
	owner object
	spec  map[string]any // of the pod
	self  map[string]any
}

func containers(objects []object) []container {
	var all []container
	for _, one := range objects {
		spec := podSpec(one)
		for _, self := range at[[]any](spec, "containers") {
			all = append(all, container{one, spec, self.(map[string]any)})
		}
	}
	return all
}

// podSpec is that of the pods that an object makes; nil when it makes none.
func podSpec(one object) map[string]any {
	if one.kind() == "CronJob" {
		return at[map[string]any](one, "spec", "jobTemplate", "spec", "template", "spec")
	}
	return at[map[string]any](one, "spec", "template", "spec")
}

func (c container) String() string { return c.owner.kind() + " " + c.owner.name() }

// environment is what the container is given as plain text.
func (c container) environment() []string {
	var env []string
	for _, entry := range at[[]any](c.self, "env") {
		if value, ok := entry.(map[string]any)["value"].(string); ok {
			env = append(env, entry.(map[string]any)["name"].(string)+"="+value)
		}
	}
	return env
}

// binaries is a folder with certctl-server and certctl-agent, built once.
func binaries(t *testing.T) string {
	t.Helper()
	out, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var built = sync.OnceValues(func() (string, error) {
	out, err := filepath.Abs(filepath.Join(root, ".task", "chart"))
	if err != nil {
		return "", err
	}
	return out, local.Build(context.Background(), root, out, "./cmd/certctl-server", "./cmd/certctl-agent")
})
