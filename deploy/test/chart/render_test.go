//go:build chart

package chart

import (
	"encoding/base64"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// valuesFiles are those of testdata, and what goes with the quick start.
func valuesFiles(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%v, %v", files, err)
	}
	all := map[string][]string{"quick start": quick, "production": append([]string{
		"--set", "server.replicas=2", "--set", "server.resources.requests.cpu=200m", "--set", "server.resources.requests.memory=256Mi",
		"--set", "ingress.enabled=true", "--set", "ingress.className=nginx", "--set", "ingress.hosts[0].host=certctl.example.com",
	}, quick...)}
	for _, file := range files {
		all[filepath.Base(file)] = append([]string{"-f", file}, quick...)
	}
	delete(all, "external-secret.yaml")
	all["external-secret.yaml"] = []string{"-f", "testdata/external-secret.yaml"}
	return all
}

func TestEveryValuesFilePassesLintAndRenders(t *testing.T) {
	t.Parallel()
	for name, args := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out, err := helm(t, append([]string{"lint", "--strict", dir}, args...)...); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if objects := mustRender(t, args...); len(objects) < 12 {
				t.Errorf("only %d objects", len(objects))
			}
		})
	}
}

func TestWhatCannotWorkIsRefusedWithASentence(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"there is no API key: set server.auth.apiKey":                       {"--set", "postgresql.auth.password=P"},
		"the database has no password: set postgresql.auth.password":        {"--set", "server.auth.apiKey=K"},
		`server.auth.type is "jwt": the API knows api-key`:                  append([]string{"--set", "server.auth.type=jwt"}, quick...),
		"the API has no certificate: set server.tls.existingSecret":         append([]string{"--set", "server.tls.generate=false"}, quick...),
		"there is no database: set externalDatabase.existingSecret":         append([]string{"--set", "postgresql.enabled=false"}, quick...),
		"there is no bus: set nats.external.urls":                           append([]string{"--set", "nats.enabled=false"}, quick...),
		"issuerRef.name is missing":                                         append([]string{"--set", "server.tls.certManager.enabled=true"}, quick...),
		"are both set: the API has one certificate":                         append([]string{"--set", "server.tls.certManager.enabled=true,server.tls.existingSecret=x,server.tls.certManager.issuerRef.name=x"}, quick...),
		`server.keygen.mode is "server": keys are made on the nodes`:        append([]string{"--set", "server.keygen.mode=server"}, quick...),
		"the local issuer signs the platform's own certificates":            append([]string{"--set", "server.issuer.local.enabled=false"}, quick...),
		"server.issuer.acme.directoryURL is missing":                        append([]string{"--set", "server.issuer.acme.enabled=true"}, quick...),
		"dnsProvider is missing":                                            append([]string{"--set", "server.issuer.acme.enabled=true,server.issuer.acme.directoryURL=letsencrypt,server.issuer.acme.challengeType=dns-01"}, quick...),
		"server.issuer.acme.dnsPropagationWait is for challengeType dns-01": append([]string{"--set", "server.issuer.acme.enabled=true,server.issuer.acme.directoryURL=letsencrypt,server.issuer.acme.dnsPropagationWait=30s"}, quick...),
		"at '/server/issuer/acme/dnsPropagationWait'":                       append([]string{"-f", "testdata/scripts.yaml", "--set", "server.issuer.acme.dnsPropagationWait=soon"}, quick...),
		"and nothing is at /scripts":                                        append([]string{"-f", "testdata/scripts.yaml", "--set", "server.issuer.acme.scripts=null"}, quick...),
		"that one image has no variant with a shell":                        append([]string{"-f", "testdata/scripts.yaml", "--set", "server.image.tag=1.2.3@sha256:0123"}, quick...),
		"what Prometheus is told to ask is port 9090":                       append([]string{"--set", "monitoring.podMonitor.enabled=true,server.env.CERTCTL_METRICS_LISTEN=0.0.0.0:9091"}, quick...),
		"in place of dnsProvider":                                           append([]string{"-f", "testdata/scripts.yaml", "--set", "server.issuer.acme.dnsProvider=cloudflare"}, quick...),
		"dnsCleanupScript is set without dnsPresentScript":                  append([]string{"-f", "testdata/acme.yaml", "--set", "server.issuer.acme.dnsCleanupScript=/scripts/x"}, quick...),
		"eabKid and eabHmac belong together":                                append([]string{"--set", "server.issuer.acme.enabled=true,server.issuer.acme.directoryURL=zerossl,server.issuer.acme.eabKid=x"}, quick...),
		"worker.autoscaling.keda.serverAddress is missing":                  append([]string{"--set", "worker.autoscaling.enabled=true,worker.autoscaling.type=keda"}, quick...),
		"at '/backup/retention': minimum: got 0, want 1":                    append([]string{"--set", "backup.retention=0"}, quick...),
		"server.notifiers.slack.webhookUrl is missing":                      append([]string{"--set", "server.notifiers.slack.enabled=true"}, quick...),
		"server.smtp.host and server.smtp.fromAddress are both needed":      append([]string{"--set", "server.smtp.enabled=true"}, quick...),
		"a password is never sent without TLS":                              append([]string{"--set", "server.smtp.enabled=true,server.smtp.host=mx,server.smtp.fromAddress=a@example.com,server.smtp.username=u,server.smtp.useTLS=false"}, quick...),
		"additional properties 'replica' not allowed":                       append([]string{"--set", "server.replica=2"}, quick...),
		"at '/nats/replicas': value must be one of 1, 3":                    append([]string{"--set", "nats.replicas=2"}, quick...),
		"at '/server/logging/level': value must be one of 'debug', 'info',": append([]string{"--set", "server.logging.level=loud"}, quick...),
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			if _, err := render(t, args...); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// No secret stands where everybody may read it, and each part mounts its own.
func TestSecretsStayInSecrets(t *testing.T) {
	t.Parallel()
	args := []string{"--set", "server.auth.apiKey=hidden-api-key", "--set", "postgresql.auth.password=hidden:pass\\word"}
	for _, one := range mustRender(t, args...) {
		if one.kind() == "Secret" {
			continue
		}
		text := sprint(one)
		for _, secret := range []string{"hidden-api-key", "hidden:pass", base64.StdEncoding.EncodeToString([]byte("hidden-api-key"))} {
			if strings.Contains(text, secret) {
				t.Errorf("%s %s holds %s", one.kind(), one.name(), secret)
			}
		}
	}
	for _, one := range mustRender(t, append([]string{"-f", "testdata/acme.yaml", "-f", "testdata/notifications.yaml"}, quick...)...) {
		if text := sprint(one); one.kind() != "Secret" && strings.Contains(text, "hidden-") {
			t.Errorf("%s %s holds a secret", one.kind(), one.name())
		}
	}
	mounts := map[string][]string{}
	for _, c := range containers(mustRender(t, args...)) {
		for _, volume := range at[[]any](c.spec, "volumes") {
			if name := at[string](volume, "secret", "secretName"); name != "" {
				mounts[name] = append(mounts[name], at[string](c.owner, "metadata", "labels", "app.kubernetes.io/component"))
			}
		}
	}
	for secret, want := range map[string][]string{
		"certctl-keys": {"signer"}, "certctl-shared-keys": {"scheduler", "server", "signer", "worker"}, "certctl-agent": {"agent"},
		"certctl-tls": {"nats", "server"}, "certctl-server": {"server", "setup"},
		"certctl-postgres": {"postgres", "scheduler", "server", "setup", "signer", "worker"},
		"certctl-bus":      {"nats", "scheduler", "server", "signer", "worker"},
	} {
		got := mounts[secret]
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s is mounted by %v, not %v", secret, got, want)
		}
	}
}

// Everything has bounds, asks for health over HTTPS and may nothing.
func TestEveryContainerIsBoundedAndProbed(t *testing.T) {
	t.Parallel()
	for name, args := range valuesFiles(t) {
		for _, c := range containers(mustRender(t, args...)) {
			for _, keys := range [][]string{{"resources", "requests", "memory"}, {"resources", "limits", "memory"}, {"resources", "requests", "cpu"}} {
				if at[any](c.self, keys...) == nil {
					t.Errorf("%s: %s has no %v", name, c, keys)
				}
			}
			if !strings.HasSuffix(c.owner.kind(), "Job") {
				for _, probe := range []string{"startupProbe", "livenessProbe", "readinessProbe"} {
					asks := at[map[string]any](c.self, probe)
					if asks == nil || asks["httpGet"] != nil && at[string](asks, "httpGet", "scheme") != "HTTPS" {
						t.Errorf("%s: %s has the %s %v", name, c, probe, asks)
					}
				}
			}
			if !at[bool](c.self, "securityContext", "readOnlyRootFilesystem") || at[any](c.spec, "enableServiceLinks") != false {
				t.Errorf("%s: %s may write to its root, or has service links", name, c)
			}
		}
	}
}

func TestOtherReleaseNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a-very-long-name-", 4) + "x"
	for _, args := range [][]string{nil, {"--set", "fullnameOverride=" + long}, {"--set", "nats.replicas=3", "--set", "nameOverride=" + long}} {
		objects, err := renderAs(t, "production-of-the-second-site", append(args, quick...)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range objects {
			limit := 63
			if one.kind() == "StatefulSet" || one.kind() == "DaemonSet" {
				limit = 52 // pods and their revisions have longer names
			}
			if name := one.name(); len(name) > limit {
				t.Errorf("%v: %s %s has %d characters", args, one.kind(), name, len(name))
			}
		}
	}
}

func TestPathsOfAnIngressDefaultToAll(t *testing.T) {
	t.Parallel()
	for _, one := range mustRender(t, valuesFiles(t)["production"]...) {
		if one.kind() != "Ingress" {
			continue
		}
		text := sprint(one)
		for _, want := range []string{"path: /\n", "pathType: Prefix", "nginx.ingress.kubernetes.io/backend-protocol: HTTPS", "ingressClassName: nginx"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in %s", want, text)
			}
		}
		return
	}
	t.Error("there is no Ingress")
}
