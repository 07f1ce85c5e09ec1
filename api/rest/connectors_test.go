package rest_test

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
)

// curlLine is a request as docs/connectors.md has it, its lines joined.
var curlLine = regexp.MustCompile(`^curl --cacert ca\.crt -H @auth (?:-X ([A-Z]+) )?https://certctl\.example\.com:8443(/\S+)(?: +-H 'Content-Type: application/json' -d '([^']*)')?$`)

// Every request of docs/connectors.md goes over https with the root that it names,
// and the API takes it.
func TestConnectorsAsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/connectors.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.agent("web-7")
	sent := map[string]int{}
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", "")) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "curl") {
			continue
		}
		found := curlLine.FindStringSubmatch(line)
		if found == nil {
			t.Errorf("not a request with --cacert over https to the API: %s", line)
			continue
		}
		method, path, body := found[1], found[2], found[3]
		switch {
		case method == "" && body != "":
			method = http.MethodPost
		case method == "":
			method = http.MethodGet
		}
		if got := w.as(method, path, textOrNothing(body)); got.status >= 300 {
			t.Errorf("%s %s: %d %s", method, path, got.status, got.body)
		}
		sent[method+" "+strings.Join(strings.Split(path, "/")[:4], "/")]++
	}
	for request, least := range map[string]int{
		"POST /api/v1/issuers": 7, "POST /api/v1/targets": 10, "POST /api/v1/channels": 9, "POST /api/v1/certificates": 1,
		"GET /api/v1/targets": 1, "DELETE /api/v1/channels": 1,
	} {
		if sent[request] < least {
			t.Errorf("%s: only %d examples", request, sent[request])
		}
	}
	for _, bad := range []string{
		"curl https://certctl.example.com:8443/api/v1/issuers", "curl -k -H @auth https://certctl.example.com:8443/api/v1/issuers",
		"curl --cacert ca.crt -H @auth http://certctl.example.com:8443/api/v1/issuers",
		"curl --cacert ca.crt -H @auth https://certctl.example.com:8443/api/v1/issuers -d '{}'", // curl calls that a form, and the API refuses it
	} {
		if curlLine.MatchString(bad) {
			t.Errorf("%s would pass", bad)
		}
	}
}

func textOrNothing(body string) any {
	if body == "" {
		return nil
	}
	return body
}

// agent makes one that is active.
func (w *world) agent(name string) {
	w.t.Helper()
	_, err := w.Pool().Exec(w.t.Context(), `insert into agent (id, team_id, name, state, machine_id, statement)
		select $1, id, $2, 'active', $2, '{}' from team where name = 'default'`, certctl.NewID(time.Now()), name)
	w.must(err)
}
