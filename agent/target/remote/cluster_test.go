//go:build kubernetes

package remote_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/deploy/local"
)

// cluster is a real API server of Kubernetes.
type cluster struct {
	*local.Kubernetes
	http *http.Client
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	program, err := filepath.Abs("../../../.task/kube-apiserver")
	must(t, err)
	c := &cluster{Kubernetes: &local.Kubernetes{Program: program, Dir: t.TempDir()}}
	must(t, c.Start(t.Context()))
	t.Cleanup(c.Kill)
	root, err := os.ReadFile(c.CAFile())
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	c.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	return c
}

// call asks as the admin; a status that is not wanted is an error.
func (c *cluster) call(method, path string, body, answer any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequest(method, c.URL()+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+local.KubernetesAdmin)
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// namespace is one with an account that may what its rule says about Secrets.
type namespace struct {
	*testing.T
	*cluster
	name, tokenFile string
}

var namespaces atomic.Int64

func (c *cluster) namespace(t *testing.T, verbs ...string) *namespace {
	t.Helper()
	n := &namespace{T: t, cluster: c, name: fmt.Sprintf("shop-%d", namespaces.Add(1))}
	must(t, c.call(http.MethodPost, "/api/v1/namespaces", object{"metadata": object{"name": n.name}}, nil))
	must(t, c.call(http.MethodPost, "/api/v1/namespaces/"+n.name+"/serviceaccounts", object{"metadata": object{"name": "proxy"}}, nil))
	rbac := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + n.name
	must(t, c.call(http.MethodPost, rbac+"/roles", object{
		"metadata": object{"name": "proxy"}, "rules": []object{{"apiGroups": []string{""}, "resources": []string{"secrets"}, "verbs": verbs}},
	}, nil))
	must(t, c.call(http.MethodPost, rbac+"/rolebindings", object{
		"metadata": object{"name": "proxy"}, "roleRef": object{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "proxy"},
		"subjects": []object{{"kind": "ServiceAccount", "name": "proxy", "namespace": n.name}},
	}, nil))
	var answer struct{ Status struct{ Token string } }
	must(t, c.call(http.MethodPost, "/api/v1/namespaces/"+n.name+"/serviceaccounts/proxy/token", object{}, &answer))
	n.tokenFile = filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(n.tokenFile, []byte(answer.Status.Token+"\n"), 0o600))
	return n
}

// secret is one as Kubernetes tells it.
type secret struct {
	Metadata struct {
		Name            string            `json:"name"`
		ResourceVersion string            `json:"resourceVersion"`
		Labels          map[string]string `json:"labels,omitempty"`
		Annotations     map[string]string `json:"annotations,omitempty"`
	} `json:"metadata"`
	Type string            `json:"type"`
	Data map[string][]byte `json:"data"`
}

func (n *namespace) path() string { return "/api/v1/namespaces/" + n.name + "/secrets" }

func (n *namespace) find(name string) (s secret, err error) {
	err = n.call(http.MethodGet, n.path()+"/"+name, nil, &s)
	return s, err
}

func (n *namespace) get(name string) secret {
	n.Helper()
	s, err := n.find(name)
	must(n.T, err)
	return s
}

func (n *namespace) put(s secret) {
	n.Helper()
	must(n.T, n.call(http.MethodPut, n.path()+"/"+s.Metadata.Name, s, nil))
}

// serve is what stands before an application and serves what the Secret holds,
// unless it is stuck: then what that held.
func (n *namespace) serve(name string, stuck *atomic.Bool) (address string) {
	n.Helper()
	var last atomic.Pointer[tls.Certificate]
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if stuck.Load() && last.Load() != nil {
			return last.Load(), nil
		}
		s, err := n.find(name)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
		last.Store(&pair)
		return &pair, err
	}})
	must(n.T, err)
	n.Cleanup(func() { _ = listener.Close() }) // it ends what accepts
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if secure, ok := conn.(*tls.Conn); ok {
					_ = secure.HandshakeContext(n.Context()) // the client sees how it ends
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// spec is the namespace as a target, with further settings.
func (n *namespace) spec(more object) certctl.TargetCommand {
	n.Helper()
	settings := object{"server": n.URL(), "ca_file": n.CAFile(), "token_file": n.tokenFile, "namespace": n.name}
	for name, value := range more {
		settings[name] = value
	}
	encoded, err := json.Marshal(settings)
	must(n.T, err)
	return certctl.TargetCommand{Name: "shop", Kind: "kubernetes-secret", Settings: encoded}
}
