//go:build chart

package chart

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/store/storetest"
)

// What values declare is what a server makes of it: an issuer and channels.
func TestWhatIsDeclaredIsMade(t *testing.T) {
	t.Parallel()
	content := []byte(declaredBy(t, "-f", "testdata/acme.yaml", "-f", "testdata/notifications.yaml"))
	file := filepath.Join(t.TempDir(), "declared.yaml")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	port, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	bus, err := local.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	server := &local.Server{
		Binary: filepath.Join(binaries(t), "certctl-server"), Dir: t.TempDir(), DatabaseURL: storetest.URL(t), Listen: local.Loopback(port),
		Env: []string{"CERTCTL_NATS_LISTEN=" + local.Loopback(bus), "CERTCTL_PKI_URL=http://pki.example.com", "CERTCTL_DECLARE=" + file},
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	for path, want := range map[string][]string{
		"/api/v1/issuers":  {"acme", "local"},
		"/api/v1/channels": {"email", "opsgenie", "pagerduty", "slack", "teams"},
	} {
		names := listed(t, server, path)
		if strings.Join(names, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %v, not %v", path, names, want)
		}
	}
}

// declaredBy is what the API is told to make, with values and those of the quick
// start.
func declaredBy(t *testing.T, args ...string) string {
	t.Helper()
	for _, one := range mustRender(t, append(args, quick...)...) {
		if one.kind() == "Secret" && one.name() == "certctl-declared" {
			content, err := base64.StdEncoding.DecodeString(at[string](one, "data", "declared.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			return string(content)
		}
	}
	t.Fatal("nothing is declared")
	return ""
}

// listed are the names of a collection's objects, sorted.
func listed(t *testing.T, server *local.Server, path string) []string {
	t.Helper()
	client, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(server.AdminKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var list struct {
		Items []struct {
			Name string `json:"name"`
		} `json:"items"`
	}
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, item := range list.Items {
		names = append(names, item.Name)
	}
	slices.Sort(names)
	return names
}
