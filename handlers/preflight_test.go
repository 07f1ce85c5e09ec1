package handlers_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// records replaces a record set of example.com.
func records(t *testing.T, p *local.PowerDNS, name, kind string, contents ...string) {
	t.Helper()
	var all []any
	for _, content := range contents {
		all = append(all, map[string]any{"content": content})
	}
	if err := p.Do(t.Context(), http.MethodPatch, "/zones/example.com.", map[string]any{"rrsets": []any{map[string]any{
		"name": name, "type": kind, "ttl": 60, "changetype": "REPLACE", "records": all,
	}}}, nil); err != nil {
		t.Fatal(err)
	}
}

// What a CA would find is found before: against a real DNS server, a CA that says
// what CAA records call it, and what answers on the port for proofs.
func TestAPreflightFindsWhatACAWouldFind(t *testing.T) {
	t.Parallel()
	server := powerDNS(t)
	zone(t, server, "com.") // CAA records are looked for up to there
	for _, name := range []string{"shop", "elsewhere", "locked", "wild", "free.locked"} {
		records(t, server, name+".example.com.", "A", "127.0.0.1")
	}
	records(t, server, "elsewhere.example.com.", "A", "127.0.0.99")
	records(t, server, "locked.example.com.", "CAA", `0 issue "other-ca.example"`)
	records(t, server, "free.locked.example.com.", "CAA", `0 issue "pebble.letsencrypt.org; validationmethods=http-01"`)
	records(t, server, "wild.example.com.", "CAA", `0 issue "pebble.letsencrypt.org"`, `0 issuewild ";"`)
	records(t, server, "_acme-challenge.moved.example.com.", "CNAME", "moved.example.net.")
	w := newACME(t, acmetest.Options{}, func(s *acme.Settings) {
		s.Servers = nil
		s.Rules = []acme.Rule{
			{Type: "dns-01", Names: []string{"*.wild.example.com", "moved.example.com", "gone.example.org"}, Provider: "exec", Config: map[string]string{"script": "x"}},
			{Type: "http-01"},
		}
	})
	_, port, _ := strings.Cut(w.pebble.Challenges.Addr().String(), ":")
	for name, want := range map[string]string{
		"shop.example.com":        "caa ok any CA may issue|http ok 127.0.0.1 answers for this installation",
		"127.0.0.1":               "http ok 127.0.0.1 answers for this installation",
		"elsewhere.example.com":   "caa ok any CA may issue|http BAD 127.0.0.99 does not answer on port " + port,
		"absent.example.com":      "caa ok any CA may issue|address BAD it has no address",
		"locked.example.com":      "caa BAD the CAA records of locked.example.com allow other-ca.example|http ok",
		"free.locked.example.com": "caa ok the CAA records of free.locked.example.com allow pebble.letsencrypt.org|http ok",
		"*.wild.example.com":      "caa BAD the CAA records of wild.example.com allow nobody|dns ok _acme-challenge.wild.example.com is written by exec",
		"moved.example.com":       "caa ok|dns ok _acme-challenge.moved.example.com, which leads to moved.example.net, is written by exec",
		"gone.example.org":        "caa BAD the CAA records of gone.example.org cannot be looked up|dns BAD _acme-challenge.gone.example.org cannot be looked up",
		"*.shop.example.com":      "rule BAD no rule under challenges proves it",
	} {
		names := certctl.Names{DNS: []string{name}}
		if addr, err := netip.ParseAddr(name); err == nil {
			names = certctl.Names{IP: []netip.Addr{addr}}
		}
		checks, err := acme.Preflight{Installation: testInstallation, Resolver: server.Listen, Port: port}.Run(w.ctx, w.ca, names)
		w.must(err)
		if checks[0].Check != "directory" || !checks[0].OK {
			t.Fatalf("%+v", checks[0])
		}
		found := checks[1:]
		parts := strings.Split(want, "|")
		if len(found) != len(parts) {
			t.Errorf("%s: %+v", name, found)
			continue
		}
		for i, check := range found {
			state := "ok"
			if !check.OK {
				state = "BAD"
			}
			if got := fmt.Sprint(check.Check, " ", state, " ", check.Message); !strings.HasPrefix(got, parts[i]) || check.OK != (check.Remedy == "") {
				t.Errorf("%s: %q (%q), want %q", name, got, check.Remedy, parts[i])
			}
		}
	}
	redirecting := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:8080/admin", http.StatusFound))
	defer redirecting.Close()
	_, away, _ := strings.Cut(redirecting.Listener.Addr().String(), ":")
	moved, err := acme.Preflight{Resolver: server.Listen, Port: away}.Run(w.ctx, w.ca, certctl.Names{DNS: []string{"shop.example.com"}})
	if err != nil || moved[2].OK || !strings.Contains(moved[2].Message, "redirects to http://127.0.0.1:8080/admin, where no CA goes") {
		t.Errorf("%+v, %v", moved, err)
	}
	other, err := acme.Preflight{Installation: "another", Resolver: server.Listen, Port: port}.Run(w.ctx, w.ca, certctl.Names{DNS: []string{"shop.example.com"}})
	if err != nil || other[2].OK || !strings.Contains(other[2].Message, "is another installation") {
		t.Errorf("%+v, %v", other, err)
	}
}

func TestAPreflightOfACAThatIsNotThere(t *testing.T) {
	t.Parallel()
	server := powerDNS(t)
	records(t, server, "shop.example.com.", "A", "127.0.0.1")
	for settings, says := range map[string]string{
		`{"directory": "https://127.0.0.1:1/dir", "terms_of_service_agreed": true}`:                                 "private network",
		`{"directory": "https://127.0.0.1:1/dir", "terms_of_service_agreed": true, "allow_private_networks": true}`: "cannot be read",
	} {
		checks, err := acme.Preflight{Resolver: server.Listen}.Run(t.Context(), certctl.Issuer{Settings: []byte(settings)}, certctl.Names{DNS: []string{"shop.example.com"}})
		if err != nil || checks[0].OK || !strings.Contains(checks[0].Message, says) || checks[0].Remedy == "" {
			t.Errorf("%s: %+v, %v", settings, checks, err)
		}
	}
}
