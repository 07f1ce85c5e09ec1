package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// Bounds of a conversation with an API server.
const (
	apiTimeout = 20 * time.Second
	maxAnswer  = 4 << 20 // a Secret has at most 1 MiB, before it is encoded
	maxToken   = 64 << 10
)

// secret is a Secret, with all that an update must give back as it was.
type secret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   secretMetadata    `json:"metadata"`
	Type       string            `json:"type"`
	Immutable  *bool             `json:"immutable,omitempty"`
	Data       map[string][]byte `json:"data"`
}

type secretMetadata struct {
	Name            string            `json:"name"`
	Namespace       string            `json:"namespace"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
	OwnerReferences json.RawMessage   `json:"ownerReferences,omitempty"`
	Finalizers      []string          `json:"finalizers,omitempty"`
}

// kubeClient is four calls of Kubernetes' API, for which its own library would
// double the program. It never lists.
type kubeClient struct {
	server, caFile, tokenFile string
	namespace                 string
}

// get returns a Secret; NotFound when there is none.
func (c *kubeClient) get(ctx context.Context, name string) (*secret, error) {
	return c.call(ctx, http.MethodGet, "get", name, nil)
}

// create makes a Secret; Conflict when there is one of its name.
func (c *kubeClient) create(ctx context.Context, s *secret) (*secret, error) {
	return c.call(ctx, http.MethodPost, "create", s.Metadata.Name, s)
}

// update replaces a Secret; Conflict when it is not any more as it was got.
func (c *kubeClient) update(ctx context.Context, s *secret) (*secret, error) {
	return c.call(ctx, http.MethodPut, "update", s.Metadata.Name, s)
}

// remove deletes a Secret; Conflict when it is not any more as it was got.
func (c *kubeClient) remove(ctx context.Context, s *secret) error {
	_, err := c.call(ctx, http.MethodDelete, "delete", s.Metadata.Name, map[string]any{
		"apiVersion": "v1", "kind": "DeleteOptions",
		"preconditions": map[string]string{"uid": s.Metadata.UID, "resourceVersion": s.Metadata.ResourceVersion},
	})
	return err
}

func (c *kubeClient) call(ctx context.Context, method, verb, name string, body any) (*secret, error) {
	address, err := url.JoinPath(c.server, "api/v1/namespaces", c.namespace, "secrets")
	if err == nil && method != http.MethodPost {
		address, err = url.JoinPath(address, name)
	}
	if err != nil {
		return nil, certctl.Wrap(certctl.Invalid, err, "%s is no address", c.server)
	}
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, certctl.Wrap(certctl.Internal, err, "the Secret %s cannot be encoded", name)
		}
		content = bytes.NewReader(encoded)
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
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
	var got secret
	if err := json.Unmarshal(answer, &got); err != nil {
		return nil, certctl.Wrap(certctl.Unavailable, err, "Kubernetes' answer cannot be read")
	}
	return &got, nil
}

// do sends a request with the token and the CA of that moment: Kubernetes replaces
// both while the proxy runs.
func (c *kubeClient) do(request *http.Request) (status int, answer []byte, err error) {
	token, err := readLimited(c.tokenFile, maxToken)
	if err != nil {
		return 0, nil, err
	}
	root, err := readLimited(c.caFile, maxToken)
	if err != nil {
		return 0, nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		return 0, nil, certctl.Errorf(certctl.Invalid, "%s holds no certificate", c.caFile)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for this host
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, certctl.Wrap(certctl.Unavailable, err, "Kubernetes does not answer at %s", c.server)
	}
	defer response.Body.Close() // nothing is left to be read
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, nil, certctl.Wrap(certctl.Unavailable, err, "Kubernetes' answer breaks off")
	}
	return response.StatusCode, answer, nil
}

// refusal says what a status means and, where a rule is missing, which.
func (c *kubeClient) refusal(status int, verb, name string, answer []byte) error {
	var said struct{ Message string }
	_ = json.Unmarshal(answer, &said) // the status says enough
	err := certctl.Errorf(certctl.Unavailable, "Kubernetes does not %s the Secret %s/%s: %d %s", verb, c.namespace, name, status, certctl.Clip(said.Message, 300))
	switch status {
	case http.StatusUnauthorized:
		err.Code = certctl.Denied
		return err.WithRemedy("the token in %s is not, or no longer, valid", c.tokenFile)
	case http.StatusForbidden:
		err.Code = certctl.Denied
		return err.WithRemedy("the token's account needs a Role with the verb %s on secrets in %s", verb, c.namespace)
	case http.StatusNotFound:
		err.Code = certctl.NotFound
	case http.StatusConflict:
		err.Code = certctl.Conflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		err.Code = certctl.Invalid
	}
	return err
}

// readLimited reads a file of this node that is small.
func readLimited(path string, limit int64) ([]byte, error) {
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
