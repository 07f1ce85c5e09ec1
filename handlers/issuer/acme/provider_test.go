package acme

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/egress"
)

func writeScript(t *testing.T, dir, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// A script gets arguments, whatever is in them, and says why it failed.
func TestAScriptGetsArguments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeScript(t, dir, "good", "#!/bin/sh\nprintf '%s|' \"$@\" >> \"$(dirname \"$0\")/said\"\n", 0o755)
	writeScript(t, dir, "bad", "#!/bin/sh\necho no such zone >&2\nexit 3\n", 0o755)
	c := &CA{Driver: &Driver{execDir: dir}}
	p, err := openExec(c, map[string]string{"script": "good"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Present(t.Context(), proof{Record: "_acme-challenge.example.com", Value: "$(touch x); `id`"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), proof{Record: "_acme-challenge.example.com", Value: "v"}); err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(filepath.Join(dir, "said"))
	if want := "present|_acme-challenge.example.com|$(touch x); `id`|remove|_acme-challenge.example.com|v|"; err != nil || string(said) != want {
		t.Errorf("said %q, %v", said, err)
	}
	if p, err = openExec(c, map[string]string{"script": "bad"}); err != nil {
		t.Fatal(err)
	}
	if err := p.Present(t.Context(), proof{Record: "r", Value: "v"}); err == nil || !strings.Contains(certctl.ErrorMessage(err), "code 3: no such zone") {
		t.Errorf("error %v", err)
	}
}

func TestScriptsThatAreNotRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeScript(t, dir, "plain", "", 0o644)
	writeScript(t, dir, "open", "#!/bin/sh\n", 0o777)
	if err := os.Symlink("/bin/true", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plain", "open", "link", "folder", "missing", "../link", "/bin/true", ""} {
		if p, err := openExec(&CA{Driver: &Driver{execDir: dir}}, map[string]string{"script": name}); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%q: %v, %v", name, p, err)
		}
	}
	if _, err := openExec(&CA{Driver: &Driver{}}, map[string]string{"script": "plain"}); certctl.ErrorCode(err) != certctl.Invalid {
		t.Errorf("without a folder: %v", err)
	}
}

func TestAWebServiceWritesTheRecords(t *testing.T) {
	t.Parallel()
	var said []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		said = append(said, r.URL.Path+" "+user+":"+password+" "+string(body))
		if strings.Contains(string(body), "refused") {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer server.Close()
	h := httpReq{client: server.Client(), url: server.URL + "/dns", username: "u", password: "p"}
	if err := h.Present(t.Context(), proof{Record: "_acme-challenge.example.com", Value: "v"}); err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(t.Context(), proof{Record: "_acme-challenge.example.com", Value: "v"}); err != nil {
		t.Fatal(err)
	}
	if err := h.Present(t.Context(), proof{Record: "refused.example.com", Value: "v"}); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("error %v", err)
	}
	const body = ` u:p {"fqdn":"_acme-challenge.example.com.","value":"v"}`
	if said[0] != "/dns/present"+body || said[1] != "/dns/cleanup"+body {
		t.Errorf("said %q", said)
	}
	closed, err := openHTTPReq(&CA{policy: egress.Policy{}}, map[string]string{"url": server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Present(context.Background(), proof{Record: "r", Value: "v"}); err == nil || len(said) != 3 {
		t.Errorf("a private address was asked: %v", err)
	}
}

func TestWhereProofsStand(t *testing.T) {
	t.Parallel()
	for record, want := range map[string]string{
		"*.shop.example.com": "_acme-challenge.shop.example.com", "shop.example.com": "_acme-challenge.shop.example.com",
	} {
		if got := recordOf(record); got != want {
			t.Errorf("%s: %s", record, got)
		}
	}
	for record, want := range map[string]string{
		"_acme-challenge.a.b.example.com": "example.com", "_acme-challenge.example.co.uk": "example.co.uk", "_acme-challenge.internal": "_acme-challenge.internal",
	} {
		if got := zoneOf(record); got != want {
			t.Errorf("%s: %s", record, got)
		}
	}
}
