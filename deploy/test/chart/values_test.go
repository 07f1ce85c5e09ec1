//go:build chart

package chart

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func sprint(value any) string {
	text, _ := yaml.Marshal(value) // it came from YAML
	return string(text)
}

// others are values for leaves whose kind does not say which other value is
// possible.
var others = map[string]any{
	"agent.env": map[string]any{"X": "y"}, "agent.joinToken.life": "30d", "agent.kind": "Deployment", "agent.labels": map[string]any{"a": "b"}, "agent.logging.level": "debug",
	"agent.volumes": []any{map[string]any{"name": "x", "emptyDir": map[string]any{}}}, "agent.volumeMounts": []any{map[string]any{"name": "x", "mountPath": "/x"}},
	"imagePullSecrets": []any{map[string]any{"name": "x"}}, "ingress.hosts": []any{map[string]any{"host": "x"}},
	"ingress.tls": []any{map[string]any{"secretName": "x"}}, "nats.advertise": []any{"tls://x:1"}, "nats.external.nodes": []any{"x=x:1"},
	"nats.external.urls": []any{"tls://x:1"}, "nats.replicas": 3, "server.auth.type": "x", "server.env": map[string]any{"X": "y"},
	"server.logging.format": "text", "server.logging.level": "debug", "server.tls.certManager.issuerRef.kind": "Issuer",
	"server.tls.extraHosts": []any{"x"}, "server.url": "https://x", "setup.wait": "7m", "monitoring.serviceMonitor.interval": "7s", "monitoring.podMonitor.interval": "7s",
	"server.issuer.acme.challengeType": "http-01", "server.issuer.acme.dnsConfig": map[string]any{"x": "y"}, "server.smtp.to": []any{"x@example.com"},
	"server.issuer.acme.dnsPropagationWait": "7m", "worker.image.pullPolicy": "Always",
	"server.issuer.acme.dnsPresentScript": "/scripts/x", "server.issuer.acme.dnsCleanupScript": "/scripts/x",
	"server.issuer.acme.scripts": map[string]any{"x": "y"}, "server.issuer.acme.scriptsVolume": map[string]any{"emptyDir": map[string]any{}},
	"worker.autoscaling.type": "keda", "worker.autoscaling.keda.serverAddress": "http://x",
	"server.tls.certManager.duration": "7h", "server.tls.certManager.renewBefore": "7h",
}

// other is a value that a leaf has not got.
func other(path string, value any) any {
	if fixed, ok := others[path]; ok {
		return fixed
	}
	last := path[strings.LastIndex(path, ".")+1:]
	switch value := value.(type) {
	case bool:
		return !value
	case int:
		return value + 7
	case string:
		switch {
		case last == "pullPolicy":
			return "Always"
		case last == "type":
			return "NodePort"
		case strings.HasSuffix(value, "Mi") || strings.HasSuffix(value, "Gi") || strings.HasSuffix(value, "m"):
			return "7" + value
		}
		return "x" + value
	case []any:
		if last == "tolerations" {
			return []any{map[string]any{"operator": "Exists"}}
		}
		return []any{map[string]any{"ports": []any{map[string]any{"port": 1}}}}
	}
	return map[string]any{"x": "y"}
}

// leaves calls check with each value that has no values below it.
func leaves(prefix string, values map[string]any, check func(path string, value any)) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if below, ok := values[key].(map[string]any); ok && len(below) > 0 {
			leaves(prefix+key+".", below, check)
			continue
		}
		check(prefix+key, values[key])
	}
}

// nested is a map in which the path leads to the value.
func nested(path string, value any) map[string]any {
	keys := strings.Split(path, ".")
	for _, key := range slices.Backward(keys) {
		value = map[string]any{key: value}
	}
	return value.(map[string]any)
}

// Nothing can be set that changes nothing. Each value is changed where the parts
// are that it may be about; one that cannot have another value says so.
func TestEveryValueChangesWhatIsRendered(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(dir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	begin := []string{"-f", "testdata/quick.yaml"}
	contexts := [][]string{
		begin,
		append(slices.Clone(begin), "-f", "testdata/operations.yaml", "-f", "testdata/security.yaml", "-f", "testdata/ingress.yaml", "-f", "testdata/agent.yaml"),
		append(slices.Clone(begin), "-f", "testdata/cert-manager.yaml"),
		append(slices.Clone(begin), "-f", "testdata/acme.yaml", "-f", "testdata/notifications.yaml"),
		append(slices.Clone(begin), "-f", "testdata/backup.yaml", "-f", "testdata/keda.yaml"),
		append(slices.Clone(begin), "-f", "testdata/scripts.yaml"),
		{"-f", "testdata/external-secret.yaml"},
	}
	before := make([]string, len(contexts))
	for i, args := range contexts {
		before[i] = sprint(mustRender(t, args...))
	}
	seen := 0
	leaves("", values, func(path string, value any) {
		seen++
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "values.yaml")
			if err := os.WriteFile(file, []byte(sprint(nested(path, other(path, value)))), 0o600); err != nil {
				t.Fatal(err)
			}
			var said error
			for i, args := range contexts {
				after, err := render(t, append(slices.Clone(args), "-f", file)...)
				if err != nil {
					said = err
					if strings.Contains(err.Error(), "execution error at") { // a sentence of the chart
						return
					}
					continue
				}
				if sprint(after) != before[i] {
					return
				}
			}
			t.Errorf("with %v nothing changes: %v", other(path, value), said)
		})
	})
	if seen < 100 {
		t.Errorf("only %d values", seen)
	}
}
