//go:build chart

package chart

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/deploy/local"
)

const adminToken = "an-admin-of-a-test"

// cluster is an API server of Kubernetes with a store, and no nodes.
type cluster struct {
	t    *testing.T
	url  string
	port int
	root []byte // its certificate
	http *http.Client
}

// startCluster runs one until the test ends. Pods' accounts have what their roles
// say and nothing else.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	dir := t.TempDir()
	ports := make([]int, 3)
	for i := range ports {
		var err error
		if ports[i], err = local.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	client, peer := "http://"+local.Loopback(ports[0]), "http://"+local.Loopback(ports[1])
	run(t, dir, "etcd", nil, "etcd", "--data-dir", dir+"/etcd", "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--unsafe-no-fsync")
	out, err := exec.CommandContext(t.Context(), "openssl", "genpkey", "-algorithm", "RSA", "-out", dir+"/sa.key").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(dir+"/tokens.csv", []byte(adminToken+",admin,admin,system:masters\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := filepath.Abs(filepath.Join(root, ".task", "kube-apiserver"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, url: "https://" + local.Loopback(ports[2]), port: ports[2]}
	process := run(t, dir, "kube-apiserver", nil, program, "--etcd-servers="+client, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", ports[2]), "--cert-dir="+dir+"/certs", "--service-account-issuer=https://test",
		"--service-account-key-file="+dir+"/sa.key", "--service-account-signing-key-file="+dir+"/sa.key", "--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=RBAC", "--token-auth-file="+dir+"/tokens.csv", "--endpoint-reconciler-type=none")
	c.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // on loopback, and its certificate is not there yet
	}}
	if err := process.Ready(t.Context(), func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/readyz", nil)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+adminToken)
		response, err := c.http.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", response.Status)
		}
		c.root = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: response.TLS.PeerCertificates[len(response.TLS.PeerCertificates)-1].Raw})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return c
}

// run starts a program that ends with the test.
func run(t *testing.T, dir, name string, env []string, args ...string) *local.Process {
	t.Helper()
	process, err := local.Start(local.Command{Args: args, Env: env, Name: name, LogFile: filepath.Join(dir, name+".log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := process.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Log(err)
		}
	})
	return process
}

// places are the collections of the kinds that the chart makes; those that
// Kubernetes itself does not have are missing.
var places = map[string]string{
	"Secret": "api/v1/namespaces/%s/secrets", "Service": "api/v1/namespaces/%s/services", "ServiceAccount": "api/v1/namespaces/%s/serviceaccounts",
	"ConfigMap": "api/v1/namespaces/%s/configmaps",
	"Pod":       "api/v1/namespaces/%s/pods",
	"Role":      "apis/rbac.authorization.k8s.io/v1/namespaces/%s/roles", "RoleBinding": "apis/rbac.authorization.k8s.io/v1/namespaces/%s/rolebindings",
	"Deployment": "apis/apps/v1/namespaces/%s/deployments", "StatefulSet": "apis/apps/v1/namespaces/%s/statefulsets",
	"DaemonSet": "apis/apps/v1/namespaces/%s/daemonsets", "Job": "apis/batch/v1/namespaces/%s/jobs",
	"CronJob": "apis/batch/v1/namespaces/%s/cronjobs", "PersistentVolumeClaim": "api/v1/namespaces/%s/persistentvolumeclaims",
	"HorizontalPodAutoscaler": "apis/autoscaling/v2/namespaces/%s/horizontalpodautoscalers",
	"PodDisruptionBudget":     "apis/policy/v1/namespaces/%s/poddisruptionbudgets",
	"NetworkPolicy":           "apis/networking.k8s.io/v1/namespaces/%s/networkpolicies", "Ingress": "apis/networking.k8s.io/v1/namespaces/%s/ingresses",
}

// create gives an object to the API server, which refuses fields that it does not
// know. It returns the answer.
func (c *cluster) create(namespace string, one object, query string) (object, error) {
	c.t.Helper()
	place, ok := places[one.kind()]
	if !ok {
		c.t.Fatalf("nobody knows the kind %s", one.kind())
	}
	return c.call(http.MethodPost, fmt.Sprintf(place, namespace)+"?fieldValidation=Strict"+query, adminToken, one)
}

func (c *cluster) call(method, path, token string, body any) (object, error) {
	c.t.Helper()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.url+"/"+path, content)
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer object
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		c.t.Fatal(err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("%s: %v", response.Status, answer["message"])
	}
	if warnings := response.Header.Values("Warning"); len(warnings) > 0 {
		return answer, fmt.Errorf("warnings: %s", strings.Join(warnings, "; "))
	}
	return answer, nil
}

// namespace makes one that takes no pod but what the restricted profile allows.
func (c *cluster) namespace(name string) {
	c.t.Helper()
	_, err := c.call(http.MethodPost, "api/v1/namespaces", adminToken, map[string]any{"metadata": map[string]any{
		"name": name, "labels": map[string]string{
			"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
		},
	}})
	if err != nil {
		c.t.Fatal(err)
	}
}
