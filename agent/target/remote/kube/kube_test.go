package kube

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl"
)

// account is a pod's, for a server that answers as handler does.
func account(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"namespace": "pki\n", "token": "t0ken\n",
		"ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	client, err := InCluster(dir, func(name string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": at.Hostname(), "KUBERNETES_SERVICE_PORT": at.Port()}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestASecretIsMadeInTheNamespaceOfTheAccount(t *testing.T) {
	t.Parallel()
	client := account(t, func(w http.ResponseWriter, r *http.Request) {
		var secret Secret
		if r.URL.Path != "/api/v1/namespaces/pki/secrets" || r.Header.Get("Authorization") != "Bearer t0ken" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&secret); err != nil || secret.Kind != "Secret" || secret.APIVersion != "v1" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		secret.Metadata.ResourceVersion = "7"
		_ = json.NewEncoder(w).Encode(secret)
	})
	made, err := client.Create(t.Context(), &Secret{Metadata: Metadata{Name: "x"}, Data: map[string][]byte{"a": []byte("b")}})
	if err != nil || made.Metadata.ResourceVersion != "7" || string(made.Data["a"]) != "b" {
		t.Errorf("%+v, %v", made, err)
	}
}

func TestRefusalsSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]certctl.Code{
		http.StatusForbidden: certctl.Denied, http.StatusUnauthorized: certctl.Denied, http.StatusNotFound: certctl.NotFound,
		http.StatusConflict: certctl.Conflict, http.StatusUnprocessableEntity: certctl.Invalid, http.StatusServiceUnavailable: certctl.Unavailable,
	} {
		client := account(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		_, err := client.Get(t.Context(), "certctl-keys")
		if certctl.ErrorCode(err) != want {
			t.Errorf("%d: %v", status, err)
		}
		var ours *certctl.Error
		if status == http.StatusForbidden && (!errors.As(err, &ours) || !strings.Contains(ours.Remedy, "verb get on secrets, resourceNames: [certctl-keys], in the namespace pki")) {
			t.Errorf("%d: %v, %q", status, err, ours.Remedy)
		}
	}
}

func TestOutsideOfAPodItSaysSo(t *testing.T) {
	t.Parallel()
	if _, err := InCluster(t.TempDir(), func(string) string { return "" }); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("no variables: %v", err)
	}
	if _, err := InCluster(t.TempDir(), func(string) string { return "1" }); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("no account: %v", err)
	}
}
