// Package kube reads and writes Secrets of one namespace of Kubernetes, with the
// account of the pod that it runs in. It is three calls of a REST API, for which
// Kubernetes' own library would double the program. It never lists and never
// deletes.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
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

// maxAnswer bounds what is read of an answer; a Secret has at most 1 MiB.
const maxAnswer = 4 << 20

// Secret is one, as much of it as is needed here.
type Secret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   Metadata          `json:"metadata"`
	Type       string            `json:"type,omitempty"`
	Data       map[string][]byte `json:"data"`
}

// Metadata is what a Secret is found by.
type Metadata struct {
	Name            string            `json:"name"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
}

// Client asks the API server as the account in a folder.
type Client struct {
	url     string // of the namespace's Secrets
	account string
	http    *http.Client
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
		return nil, unmounted(err)
	}
	root, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, unmounted(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		return nil, certctl.Errorf(certctl.Invalid, "%s holds no certificate", filepath.Join(dir, "ca.crt"))
	}
	base := url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)}
	return &Client{
		url:     base.JoinPath("api/v1/namespaces", strings.TrimSpace(string(namespace)), "secrets").String(),
		account: dir,
		http: &http.Client{
			Timeout:   30 * time.Second,
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		},
	}, nil
}

func unmounted(err error) error {
	return certctl.Wrap(certctl.Invalid, err, "the account of this pod cannot be read").
		WithRemedy("the pod needs a service account and automountServiceAccountToken: true")
}

// Get returns a Secret; NotFound when there is none.
func (c *Client) Get(ctx context.Context, name string) (Secret, error) {
	return c.call(ctx, http.MethodGet, "get", c.url+"/"+url.PathEscape(name), name, nil)
}

// Create makes a Secret; Conflict when there is one of that name.
func (c *Client) Create(ctx context.Context, secret Secret) (Secret, error) {
	return c.call(ctx, http.MethodPost, "create", c.url, secret.Metadata.Name, &secret)
}

// Update replaces a Secret that was got before; Conflict when somebody else has
// replaced it since.
func (c *Client) Update(ctx context.Context, secret Secret) (Secret, error) {
	return c.call(ctx, http.MethodPut, "update", c.url+"/"+url.PathEscape(secret.Metadata.Name), secret.Metadata.Name, &secret)
}

func (c *Client) call(ctx context.Context, method, verb, address, name string, body *Secret) (Secret, error) {
	var content io.Reader
	if body != nil {
		body.APIVersion, body.Kind = "v1", "Secret"
		text, err := json.Marshal(body)
		if err != nil {
			return Secret{}, certctl.Wrap(certctl.Internal, err, "the Secret %s cannot be encoded", name)
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, address, content)
	if err != nil {
		return Secret{}, certctl.Wrap(certctl.Invalid, err, "%s is no address", address)
	}
	token, err := os.ReadFile(filepath.Join(c.account, "token")) // each time: Kubernetes replaces it
	if err != nil {
		return Secret{}, unmounted(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return Secret{}, certctl.Wrap(certctl.Unavailable, err, "Kubernetes does not answer")
	}
	defer response.Body.Close() // nothing is left to be read
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return Secret{}, certctl.Wrap(certctl.Unavailable, err, "Kubernetes' answer breaks off")
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return Secret{}, refusal(response.StatusCode, verb, name, text)
	}
	var got Secret
	if err := json.Unmarshal(text, &got); err != nil {
		return Secret{}, certctl.Wrap(certctl.Unavailable, err, "Kubernetes' answer cannot be read")
	}
	return got, nil
}

// refusal says what a status means and, where a rule is missing, which.
func refusal(status int, verb, name string, answer []byte) error {
	var said struct{ Message string }
	_ = json.Unmarshal(answer, &said) // the status says enough
	err := certctl.Errorf(certctl.Unavailable, "Kubernetes does not %s the Secret %s: %d %s", verb, name, status, certctl.Clip(said.Message, 300))
	switch status {
	case http.StatusUnauthorized:
		err.Code = certctl.Denied
		err = err.WithRemedy("the token of the service account is not, or no longer, valid")
	case http.StatusForbidden:
		err.Code = certctl.Denied
		rule := "the Role of the service account needs the verb " + verb + " on secrets"
		if verb != "create" {
			rule += ", resourceNames: [" + name + "]"
		}
		err = err.WithRemedy("%s", rule)
	case http.StatusNotFound:
		err.Code = certctl.NotFound
	case http.StatusConflict:
		err.Code = certctl.Conflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		err.Code = certctl.Invalid
	}
	return err
}
