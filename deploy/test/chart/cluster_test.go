//go:build chart

package chart

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/store/storetest"
)

// A real API server takes all that is rendered, field by field, and its restricted
// profile takes every pod.
func TestKubernetesTakesWhatIsRendered(t *testing.T) { //nolint:paralleltest // the next takes the cluster, too
	c := startCluster(t)
	t.Run("objects", func(t *testing.T) { //nolint:paralleltest // one after the other
		n := 0
		for name, args := range valuesFiles(t) {
			n++
			namespace := fmt.Sprintf("values-%d", n)
			c.namespace(namespace)
			c.takes(namespace, name, mustRender(t, args...))
		}
	})
	t.Run("setup", func(t *testing.T) { c.setUp(t) }) //nolint:paralleltest // likewise
}

// foreign are kinds that others bring into a cluster.
var foreign = []string{"ServiceMonitor", "PodMonitor", "Certificate", "ScaledObject"}

// takes creates the accounts, and tries all else.
func (c *cluster) takes(namespace, name string, objects []object) {
	c.t.Helper()
	for _, one := range objects {
		if one.kind() == "ServiceAccount" {
			if _, err := c.create(namespace, in(namespace, one), ""); err != nil {
				c.t.Errorf("%s: %s: %v", name, one.name(), err)
			}
		}
	}
	for _, one := range objects {
		if one.kind() == "ServiceAccount" || slices.Contains(foreign, one.kind()) {
			continue
		}
		if _, err := c.create(namespace, in(namespace, one), "&dryRun=All"); err != nil {
			c.t.Errorf("%s: %s %s: %v", name, one.kind(), one.name(), err)
		}
		spec := podSpec(one)
		if spec == nil {
			continue
		}
		if one.kind() == "StatefulSet" { // the controller adds the volume of the claim
			spec = withVolume(spec)
		}
		pod := object{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "x"}, "spec": spec}
		if _, err := c.create(namespace, pod, "&dryRun=All"); err != nil {
			c.t.Errorf("%s: a pod of %s %s: %v", name, one.kind(), one.name(), err)
		}
	}
}

// in is the object in a namespace.
func in(namespace string, one object) object {
	moved, metadata := maps.Clone(one), maps.Clone(at[map[string]any](one, "metadata"))
	metadata["namespace"], moved["metadata"] = namespace, metadata
	return moved
}

func withVolume(spec map[string]any) map[string]any {
	spec = maps.Clone(spec)
	spec["volumes"] = append(slices.Clone(at[[]any](spec, "volumes")), map[string]any{"name": "data", "emptyDir": map[string]any{}})
	return spec
}

// setUp runs the setup Job's command as the Job's account, with the rights that the
// chart gives to it.
func (c *cluster) setUp(t *testing.T) {
	t.Helper()
	const namespace = "pki"
	c.namespace(namespace)
	objects := mustRender(t, quick...)
	for _, one := range objects {
		if slices.Contains([]string{"ServiceAccount", "Role", "RoleBinding", "Secret"}, one.kind()) {
			if _, err := c.create(namespace, in(namespace, one), ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	token, setup := c.job(t, namespace, objects)
	setup()
	first := c.secrets(namespace)
	for name, want := range map[string][]string{
		"certctl-keys": {"kek-ca.key"}, "certctl-shared-keys": {"kek-pki.key", "kek-secrets.key"}, "certctl-tls": {"ca.crt", "tls.crt", "tls.key"},
		"certctl-bus": {
			"accounts.conf", "api.creds", "ca.crt", "certctl-nats-0.conf", "operator.jwt", "pusher.creds", "scheduler.creds", "signer.creds", "worker.creds",
		},
		"certctl-agent": {"ca.crt", "token"}, "certctl-server": {"api-key"}, "certctl-postgres": {"password", "pgpass"},
	} {
		if got := slices.Sorted(maps.Keys(at[map[string]any](first[name], "data"))); !slices.Equal(got, want) {
			t.Errorf("%s holds %v, want %v", name, got, want)
		}
	}
	c.mounted(t, objects, first)
	setup()
	for name, secret := range c.secrets(namespace) {
		if was := at[string](first[name], "metadata", "resourceVersion"); was != at[string](secret, "metadata", "resourceVersion") {
			t.Errorf("a second run has written %s", name)
		}
	}
	for _, path := range []string{"secrets/certctl-server", "secrets/certctl-postgres", "secrets", "pods", "configmaps"} {
		if _, err := c.call(http.MethodGet, "api/v1/namespaces/"+namespace+"/"+path, token, nil); err == nil || !strings.HasPrefix(err.Error(), "403") {
			t.Errorf("the account of the Job may read %s: %v", path, err)
		}
	}
	if _, err := c.call(http.MethodDelete, "api/v1/namespaces/"+namespace+"/secrets/certctl-keys", token, nil); err == nil {
		t.Error("the account of the Job may delete the keys")
	}
	pgpass, err := base64.StdEncoding.DecodeString(at[string](first["certctl-postgres"], "data", "pgpass"))
	if err != nil || string(pgpass) != "*:*:*:*:pass\\:word\n" {
		t.Errorf("pgpass is %q, %v", pgpass, err)
	}
}

// job returns the token of the Job's account, and what runs its command with that.
func (c *cluster) job(t *testing.T, namespace string, objects []object) (token string, setup func()) {
	t.Helper()
	all := containers(objects)
	job := all[slices.IndexFunc(all, func(one container) bool { return one.owner.kind() == "Job" })]
	token = c.accountToken(t, namespace, at[string](job.spec, "serviceAccountName"))
	account := t.TempDir()
	for name, content := range map[string]string{"token": token, "namespace": namespace, "ca.crt": string(c.root)} {
		put(t, filepath.Join(account, name), content)
	}
	database, key := storetest.URL(t), filepath.Join(t.TempDir(), "api-key")
	put(t, key, "0123456789abcdef0123456789abcdef")
	var args []string
	for _, arg := range at[[]any](job.self, "args") {
		args = append(args, arg.(string))
	}
	args = append(args, "--account-dir="+account)
	return token, func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(binaries(t), "certctl-server"), args...)
		cmd.Env = append(job.environment(), "KUBERNETES_SERVICE_HOST=127.0.0.1", fmt.Sprintf("KUBERNETES_SERVICE_PORT=%d", c.port),
			"CERTCTL_DATABASE_URL="+database, "CERTCTL_API_KEY_FILE="+key, "CERTCTL_DATA_DIR="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// mounted holds what pods mount against what the Secrets hold: a pod whose file is
// missing never starts.
func (c *cluster) mounted(t *testing.T, objects []object, held map[string]object) {
	t.Helper()
	checked := 0
	for _, one := range containers(objects) {
		for _, volume := range at[[]any](one.spec, "volumes") {
			name := at[string](volume, "secret", "secretName")
			for _, item := range at[[]any](volume, "secret", "items") {
				checked++
				if key := at[string](item, "key"); at[string](held[name], "data", key) == "" {
					t.Errorf("%s mounts %s of %s, which is not there", one, key, name)
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d files", checked)
	}
}

func (c *cluster) secrets(namespace string) map[string]object {
	c.t.Helper()
	list, err := c.call(http.MethodGet, "api/v1/namespaces/"+namespace+"/secrets", adminToken, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	all := map[string]object{}
	for _, item := range at[[]any](list, "items") {
		one := object(item.(map[string]any))
		all[one.name()] = one
	}
	return all
}

// accountToken is what Kubernetes would mount into a pod of the account.
func (c *cluster) accountToken(t *testing.T, namespace, account string) string {
	t.Helper()
	made, err := c.call(http.MethodPost, "api/v1/namespaces/"+namespace+"/serviceaccounts/"+account+"/token", adminToken,
		map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{"expirationSeconds": 3600}})
	if err != nil {
		t.Fatal(err)
	}
	return at[string](made, "status", "token")
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
