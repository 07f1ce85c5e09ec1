// Package kube reads and writes Secrets of one namespace of Kubernetes: targets of
// kind kubernetes-secret, and those that the server's setup makes in a cluster. It
// is four calls of a REST API, for which Kubernetes' own library would double the
// program. It never lists.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// AccountDir is where Kubernetes puts a pod's account.
const AccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// Bounds of a conversation with an API server.
const (
	timeout   = 20 * time.Second
	maxAnswer = 4 << 20 // a Secret has at most 1 MiB, before it is encoded
	maxToken  = 64 << 10
)

// Secret is one, with all that an update must give back as it was.
type Secret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   Metadata          `json:"metadata"`
	Type       string            `json:"type,omitempty"`
	Immutable  *bool             `json:"immutable,omitempty"`
	Data       map[string][]byte `json:"data"`
}

// Metadata is what a Secret is found by, and who else has to do with it.
type Metadata struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace,omitempty"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	OwnerReferences json.RawMessage   `json:"ownerReferences,omitempty"`
	Finalizers      []string          `json:"finalizers,omitempty"`
}

// Client asks an API server about a namespace.
type Client struct {
	Server    string // https://host:port
	Namespace string
	// CAFile and TokenFile are read with each request: Kubernetes replaces both while
	// a process runs.
	CAFile, TokenFile string
}

// InCluster returns a client for the namespace of the account in dir. The address
// is in the variables that Kubernetes gives each container.
func InCluster(dir string, getenv func(string) string) (*Client, error) {
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, certctl.Errorf(certctl.Invalid, "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set").
			WithRemedy("run this in a pod of Kubernetes")
	}
	namespace, err := os.ReadFile(filepath.Join(dir, "namespace"))
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "the account of this pod cannot be read").
			WithRemedy("the pod needs a service account and automountServiceAccountToken: true")
	}
	server := url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)}
	return &Client{
		Server: server.String(), Namespace: strings.TrimSpace(string(namespace)),
		CAFile: filepath.Join(dir, "ca.crt"), TokenFile: filepath.Join(dir, "token"),
	}, nil
}

// Get returns a Secret; NotFound when there is none.
func (c *Client) Get(ctx context.Context, name string) (*Secret, error) {
	return c.call(ctx, http.MethodGet, "get", name, nil)
}

// Create makes a Secret; Conflict when there is one of its name.
func (c *Client) Create(ctx context.Context, s *Secret) (*Secret, error) {
	return c.call(ctx, http.MethodPost, "create", s.Metadata.Name, s.typed())
}

// Update replaces a Secret; Conflict when it is not any more as it was got.
func (c *Client) Update(ctx context.Context, s *Secret) (*Secret, error) {
	return c.call(ctx, http.MethodPut, "update", s.Metadata.Name, s.typed())
}

// Delete removes a Secret; Conflict when it is not any more as it was got.
func (c *Client) Delete(ctx context.Context, s *Secret) error {
	_, err := c.call(ctx, http.MethodDelete, "delete", s.Metadata.Name, map[string]any{
		"apiVersion": "v1", "kind": "DeleteOptions",
		"preconditions": map[string]string{"uid": s.Metadata.UID, "resourceVersion": s.Metadata.ResourceVersion},
	})
	return err
}

// typed is the Secret that says that it is one.
func (s *Secret) typed() *Secret {
	typed := *s
	typed.APIVersion, typed.Kind = "v1", "Secret"
	return &typed
}

func (c *Client) call(ctx context.Context, method, verb, name string, body any) (*Secret, error) {
	address, err := url.JoinPath(c.Server, "api/v1/namespaces", c.Namespace, "secrets")
	if err == nil && method != http.MethodPost {
		address, err = url.JoinPath(address, name)
	}
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "%s is no address", c.Server)
	}
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, certctl.Wrap(certctl.Internal, err, "the Secret %s cannot be encoded", name)
		}
		content = bytes.NewReader(encoded)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "%s is no address", address)
	}
	status, answer, err := c.do(request)
	if err != nil {
		return nil, err
	}
	if status >= http.StatusMultipleChoices {
		return nil, c.refusal(status, verb, name, answer)
	}
	var got Secret
	if err := json.Unmarshal(answer, &got); err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "Kubernetes' answer cannot be read")
	}
	return &got, nil
}

// do sends a request with the token and the CA of that moment.
func (c *Client) do(request *http.Request) (status int, answer []byte, err error) {
	token, err := ReadSmall(c.TokenFile, maxToken)
	if err != nil {
		return 0, nil, err
	}
	root, err := ReadSmall(c.CAFile, maxToken)
	if err != nil {
		return 0, nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		return 0, nil, certctl.Errorf(certctl.Invalid, "%s holds no certificate", c.CAFile)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this host
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, certctl.Wrap(certctl.Unavailable, err, "Kubernetes does not answer at %s", c.Server)
	}
	defer response.Body.Close() // nothing is left to be read
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, nil, certctl.Wrap(certctl.Unavailable, err, "Kubernetes' answer breaks off")
	}
	return response.StatusCode, answer, nil
}

// refusal says what a status means and, where a rule is missing, which.
func (c *Client) refusal(status int, verb, name string, answer []byte) error {
	var said struct{ Message string }
	_ = json.Unmarshal(answer, &said) // the status says enough
	err := certctl.Errorf(certctl.Unavailable, "Kubernetes does not %s the Secret %s/%s: %d %s", verb, c.Namespace, name, status, certctl.Clip(said.Message, 300))
	switch status {
	case http.StatusUnauthorized:
		err.Code = certctl.Denied
		return err.WithRemedy("the token in %s is not, or no longer, valid", c.TokenFile)
	case http.StatusForbidden:
		err.Code = certctl.Denied
		rule := "the Role of the service account needs the verb " + verb + " on secrets"
		if verb != "create" { // which has no name yet
			rule += ", resourceNames: [" + name + "]"
		}
		return err.WithRemedy("%s, in the namespace %s", rule, c.Namespace)
	case http.StatusNotFound:
		err.Code = certctl.NotFound
	case http.StatusConflict:
		err.Code = certctl.Conflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		err.Code = certctl.Invalid
	}
	return err
}

// ReadSmall reads a file of this node of at most limit bytes, and at least one.
func ReadSmall(path string, limit int64) ([]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "%s cannot be read", path)
	}
	defer in.Close()
	content, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && (len(content) == 0 || int64(len(content)) > limit) {
		err = errors.New("it is empty, or too long")
	}
	if err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "%s cannot be read", path)
	}
	return content, nil
}
