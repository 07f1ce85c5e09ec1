package acme

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"go.yaml.in/yaml/v3"
)

func TestSettingsThatCannotWork(t *testing.T) {
	t.Parallel()
	const good = `"directory": "letsencrypt", "terms_of_service_agreed": true`
	for settings, field := range map[string]string{
		`{"directory": "http://ca.example.com/dir", "terms_of_service_agreed": true}`:                                                  "/settings/directory",
		`{"directory": "https://user@ca.example.com/", "terms_of_service_agreed": true}`:                                               "/settings/directory",
		`{"directory": "elsewhere", "terms_of_service_agreed": true}`:                                                                  "/settings/directory",
		`{"terms_of_service_agreed": true}`:                                                                                            "/settings/directory",
		`{"directory": "letsencrypt"}`:                                                                                                 "/settings/terms_of_service_agreed",
		`{` + good + `, "contact": ["nobody"]}`:                                                                                        "/settings/contact/0",
		`{` + good + `, "ca_bundle": "none"}`:                                                                                          "/settings/ca_bundle",
		`{` + good + `, "allowed_hosts": ["https://x"]}`:                                                                               "/settings/allowed_hosts/0",
		`{` + good + `, "dns_servers": ["ns1"]}`:                                                                                       "/settings/dns_servers/0",
		`{` + good + `, "dns_propagation_wait": "61m"}`:                                                                                "/settings/dns_propagation_wait",
		`{` + good + `, "unknown": 1}`:                                                                                                 "/settings",
		`{` + good + `, "challenges": [{"type": "dns-persist-02"}]}`:                                                                   "/settings/challenges/0/type",
		`{` + good + `, "challenges": [{"type": "tls-alpn-01"}]}`:                                                                      "/settings/challenges/0/answered_by",
		`{` + good + `, "challenges": [{"type": "http-01", "answered_by": []}]}`:                                                       "/settings/challenges/0/answered_by",
		`{` + good + `, "challenges": [{"type": "http-01", "answered_by": "everybody"}]}`:                                              "/settings",
		`{` + good + `, "challenges": [{"type": "http-01", "answered_by": ["web1", ""]}]}`:                                             "/settings/challenges/0/answered_by/1",
		`{` + good + `, "challenges": [{"type": "dns-01", "provider": "cloudflare", "answered_by": "agents"}]}`:                        "/settings/challenges/0/answered_by",
		`{` + good + `, "challenges": [{"type": "http-01", "provider": "exec"}]}`:                                                      "/settings/challenges/0/provider",
		`{` + good + `, "challenges": [{"type": "dns-01", "provider": "route66"}]}`:                                                    "/settings/challenges/0/provider",
		`{` + good + `, "challenges": [{"type": "http-01", "names": ["a b"]}]}`:                                                        "/settings/challenges/0/names/0",
		`{` + good + `, "challenges": [{"type": "dns-01", "provider": "exec"}]}`:                                                       "/settings/challenges/0/config/script",
		`{` + good + `, "challenges": [` + execRule("../../bin/sh") + `]}`:                                                             "/settings/challenges/0/config/script",
		`{` + good + `, "challenges": [` + execRule("/bin/sh") + `]}`:                                                                  "/settings/challenges/0/config/script",
		`{` + good + `, "challenges": [` + execRule(".hidden") + `]}`:                                                                  "/settings/challenges/0/config/script",
		`{` + good + `, "challenges": [{"type": "dns-01", "provider": "httpreq", "config": {"url": "http://x"}}]}`:                     "/settings/challenges/0/config/url",
		`{` + good + `, "challenges": [{"type": "dns-01", "provider": "rfc2136", "config": {"server": "ns", "zone": "example.com"}}]}`: "/settings/challenges/0/config/server",
	} {
		var e *certctl.Error
		if err := Validate(json.RawMessage(settings)); !errors.As(err, &e) || e.Code != certctl.Invalid || e.Fields[0].Field != field {
			t.Errorf("%s: %v", settings, err)
		}
	}
	for _, more := range []string{``, `, "dns_propagation_wait": "30s"`, `, "challenges": [{"type": "http-01", "answered_by": "agents"}, {"type": "tls-alpn-01", "answered_by": ["web1", "web2"]}]`} {
		if err := Validate(json.RawMessage(`{` + good + more + `}`)); err != nil {
			t.Error(err)
		}
	}
}

// Records that have ended are not set, and do not end what else their issuer does.
func TestRecordsThatHaveEndedAreNotSet(t *testing.T) {
	t.Parallel()
	end := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	raw := json.RawMessage(`{"directory": "letsencrypt", "terms_of_service_agreed": true,
		"challenges": [{"type": "dns-persist-01", "names": ["example.com"], "persist_until": "2027-01-01T00:00:00Z"}, {"type": "http-01"}]}`)
	var e *certctl.Error
	if err := validate(raw, end); !errors.As(err, &e) || e.Code != certctl.Invalid || e.Fields[0].Field != "/settings/challenges/0/persist_until" {
		t.Errorf("at its end: %v", err)
	}
	if err := validate(raw, end.Add(-time.Second)); err != nil {
		t.Error(err)
	}
	if _, err := parseSettings(raw); err != nil {
		t.Errorf("what is set already: %v", err)
	}
}

func execRule(script string) string {
	return `{"type": "dns-01", "provider": "exec", "config": {"script": "` + script + `"}}`
}

// The example of the documents is one that the API takes.
func TestTheDocumentedIssuerIsValid(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/acme.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("no example")
	}
	var issuer struct {
		Kind     string
		Settings map[string]any
		Secrets  map[string]string
	}
	if err := yaml.Unmarshal(block[1], &issuer); err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(issuer.Settings)
	if err != nil || issuer.Kind != Kind {
		t.Fatal(issuer.Kind, err)
	}
	if err := Validate(settings); err != nil {
		t.Error(err)
	}
	for name := range issuer.Secrets {
		if !strings.Contains(strings.Join(Secrets, " "), name) {
			t.Errorf("there is no secret %s", name)
		}
	}
	for _, p := range LegoProviders() {
		removes := `.*\| the value`
		switch {
		case p.All:
			removes = `[^|]*\|[^|]*`
		case p.Whole:
			removes = `.*\| the record`
		}
		if !regexp.MustCompile("(?m)^\\| `" + p.Name + "` \\| " + regexp.QuoteMeta(p.Title) + ` \|` + removes + ` \|$`).Match(text) {
			t.Errorf("the row of %s is not what the table says", p.Name)
		}
		for _, name := range slices.Concat(p.Settings, p.Optional, p.Secrets, p.More) {
			if !strings.Contains(string(text), "`"+name+"`") {
				t.Errorf("%s of %s is not documented", name, p.Name)
			}
		}
	}
	for _, provider := range providerNames() {
		if !strings.Contains(string(text), "| `"+provider+"` |") {
			t.Errorf("the provider %s is not documented", provider)
		}
	}
}

func TestTheFirstRuleThatFitsProvesAName(t *testing.T) {
	t.Parallel()
	s := Settings{Rules: []Rule{
		{Type: challengeHTTP, Names: []string{"www.example.com"}},
		{Type: challengeDNS, Names: []string{"*.example.com"}},
		{Type: challengeHTTP, Names: []string{"example.net", "*.example.net"}},
		{Type: challengeHTTP, Names: []string{"192.0.2.1", "example.com"}},
	}}
	for name, want := range map[string]int{
		"www.example.com": 0, "shop.example.com": 1, "a.b.example.com": 1, "*.www.example.com": 1, "*.example.com": 1,
		"example.com": 3, "example.net": 2, "x.example.net": 2, "*.example.net": -1, "badexample.com": -1, "192.0.2.1": 3,
	} {
		rule, ok := s.rule(name)
		if ok != (want >= 0) || ok && (rule.Type != s.Rules[want].Type || rule.Names[0] != s.Rules[want].Names[0]) {
			t.Errorf("%s: %+v, %v", name, rule, ok)
		}
	}
	if _, ok := (Settings{Rules: []Rule{{Type: challengeDNS}}}).rule("192.0.2.1"); ok {
		t.Error("an address is proven by DNS")
	}
}

func TestRequestsGoToTheDirectorysHost(t *testing.T) {
	t.Parallel()
	s := Settings{Directory: "https://ca.example.com/dir", Hosts: []string{"other.example.com:8443"}}
	for host, want := range map[string]bool{
		"ca.example.com": true, "CA.example.com:443": true, "ca.example.com:8443": false, "other.example.com:8443": true,
		"other.example.com": false, "evil.example.com": false, "": false,
	} {
		if s.allowed(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

// What only another build has is refused, with which one that is; whether a server
// can use its settings is the same question.
func TestAProviderOfAnotherBuildIsRefused(t *testing.T) {
	t.Parallel()
	err := Validate([]byte(`{"directory": "letsencrypt", "terms_of_service_agreed": true, "challenges": [{"type": "dns-01", "provider": "dynu"}]}`))
	if allDNS {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil || !strings.Contains(certctl.ErrorMessage(err)+err.Error(), "-tags alldns") {
		t.Errorf("error %v", err)
	}
	if slices.Contains(providerNames(), "dynu") || !slices.Contains(providerNames(), "route53") {
		t.Errorf("offered: %v", providerNames())
	}
}
