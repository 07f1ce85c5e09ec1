package handlers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/certctl/certctl/deploy/local"
	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

const powerDNSKey = "the key of the tests' PowerDNS"

// powerDNS starts a PowerDNS with the zones example.com and example.net.
func powerDNS(t *testing.T) *local.PowerDNS {
	t.Helper()
	address := func() string {
		port, err := local.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("127.0.0.1:%d", port)
	}
	p := &local.PowerDNS{Dir: t.TempDir(), Listen: address(), API: address(), Key: powerDNSKey}
	process, err := p.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	zone(t, p, "example.com.")
	zone(t, p, "example.net.")
	return p
}

// zone makes an empty zone.
func zone(t *testing.T, p *local.PowerDNS, name string) {
	t.Helper()
	if err := p.Do(t.Context(), http.MethodPost, "/zones", map[string]any{"name": name, "kind": "Native", "nameservers": []string{"ns." + name}}, nil); err != nil {
		t.Fatal(err)
	}
}

// texts are the TXT records of a zone, by name.
func texts(t *testing.T, p *local.PowerDNS, name string) map[string][]string {
	t.Helper()
	var z struct {
		RRsets []struct {
			Name, Type string
			Records    []struct{ Content string }
		}
	}
	if err := p.Do(context.WithoutCancel(t.Context()), http.MethodGet, "/zones/"+name, nil, &z); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, set := range z.RRsets {
		for _, record := range set.Records {
			if set.Type == "TXT" {
				out[set.Name] = append(out[set.Name], record.Content)
			}
		}
	}
	return out
}

// A provider of lego's writes to a real PowerDNS, in a process of the server's
// program: a wildcard with its base, also where the record leads to another zone.
// What others have in a record stays.
func TestAProviderOfLegosWritesTheRecords(t *testing.T) {
	t.Parallel()
	server := powerDNS(t)
	w := newACME(t, acmetest.Options{Resolver: server.Listen}, func(s *acme.Settings) {
		s.Servers = []string{server.Listen}
		s.Rules = []acme.Rule{{Type: "dns-01", Provider: "pdns", Config: map[string]string{"PDNS_API_URL": "http://" + server.API}}}
	})
	w.dns = []string{serverProgram(t), "dns-provider"}
	const theirs = `"what somebody else has there"`
	records(t, server, "_acme-challenge.plain.example.com.", "TXT", theirs)
	records(t, server, "_acme-challenge.far.example.com.", "CNAME", "_acme-challenge.far.example.net.")

	plain, _ := w.orderFor("plain", "plain.example.com", "*.plain.example.com")
	far, _ := w.orderFor("far", "far.example.com", "*.far.example.com")
	w.until("issued", always(w.worker("a", immortal)), w.issued(plain, far))
	if left := texts(t, server, "example.net."); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	left := texts(t, server, "example.com.")["_acme-challenge.plain.example.com."]
	if len(left) != 1 || left[0] != theirs {
		t.Errorf("the record holds %v", left)
	}
	w.clean()
}

// Dynamic updates to a real server, signed and not (RFC 2136, RFC 8945).
func TestDynamicUpdatesReachAServer(t *testing.T) {
	t.Parallel()
	server := powerDNS(t)
	if err := server.Do(t.Context(), http.MethodPost, "/tsigkeys", map[string]any{"name": "certctl", "algorithm": "hmac-sha512", "key": "c2VjcmV0IG9mIHRoZSB0ZXN0IHNlcnZlcg=="}, nil); err != nil {
		t.Fatal(err)
	}
	if err := server.Do(t.Context(), http.MethodPut, "/zones/example.com./metadata/TSIG-ALLOW-DNSUPDATE", map[string]any{"metadata": []string{"certctl"}}, nil); err != nil {
		t.Fatal(err)
	}
	config := map[string]string{"server": server.Listen, "zone": "example.com", "tsig_key": "certctl", "tsig_algorithm": "hmac-sha512"}
	w := newACME(t, acmetest.Options{Resolver: server.Listen}, func(s *acme.Settings) {
		s.Servers, s.Rules = []string{server.Listen}, []acme.Rule{{Type: "dns-01", Provider: "rfc2136", Config: config}}
	})
	const theirs = `"what somebody else has there"`
	records(t, server, "_acme-challenge.shop.example.com.", "TXT", theirs)
	shop, _ := w.orderFor("shop", "shop.example.com", "*.shop.example.com")
	w.until("issued", always(w.worker("a", immortal)), w.issued(shop))
	if left := texts(t, server, "example.com.")["_acme-challenge.shop.example.com."]; len(left) != 1 || left[0] != theirs {
		t.Errorf("the record holds %v", left)
	}
	w.clean()

	delete(config, "tsig_key")
	unsigned := newACME(t, acmetest.Options{Resolver: server.Listen}, func(s *acme.Settings) {
		s.Servers, s.Rules = []string{server.Listen}, []acme.Rule{{Type: "dns-01", Provider: "rfc2136", Config: config}}
	})
	shop, _ = unsigned.orderFor("shop", "shop.example.com")
	unsigned.until("refused", always(unsigned.worker("a", immortal)), func() bool { return unsigned.order(shop).ErrorCode == "acme_dns_provider" })
	if o := unsigned.order(shop); !strings.Contains(o.Message, "refuses the update: REFUSED") {
		t.Errorf("%q", o.Message)
	}
}

// What a provider says when it fails is shown, without secrets.
func TestAProviderThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	server := powerDNS(t)
	for name, c := range map[string]struct {
		dns  []string
		says string
	}{
		"no program":       {nil, "runs no DNS providers"},
		"a zone not there": {[]string{serverProgram(t), "dns-provider"}, "zone"},
		"another program":  {[]string{"/bin/true"}, "without an answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newACME(t, acmetest.Options{Resolver: server.Listen}, func(s *acme.Settings) {
				s.Servers = []string{server.Listen}
				s.Rules = []acme.Rule{{Type: "dns-01", Provider: "pdns", Config: map[string]string{"PDNS_API_URL": "http://" + server.API}}}
			})
			w.dns = c.dns
			order, _ := w.orderFor("shop", "shop.example.org")
			w.until("failed", always(w.worker("a", immortal)), func() bool { return w.order(order).ErrorCode != "" })
			if o := w.order(order); !strings.Contains(o.Message, c.says) || strings.Contains(o.Message, powerDNSKey) {
				t.Errorf("%s: %q", o.ErrorCode, o.Message)
			}
		})
	}
}

// A provider's process takes the settings of its row alone, and connects where the
// issuer's policy lets it.
func TestTheProcessOfAProviderIsConfined(t *testing.T) {
	t.Parallel()
	server := powerDNS(t)
	set := map[string]string{"PDNS_API_URL": "http://" + server.API, "PDNS_API_KEY": powerDNSKey}
	call := acme.DNSCall{Provider: "pdns", Domain: "shop.example.com", Answer: "token.thumbprint", Variables: set, Servers: []string{server.Listen}}
	for name, c := range map[string]struct {
		change func(*acme.DNSCall)
		says   string
	}{
		"a private network":  {func(*acme.DNSCall) {}, "an address of a private network"},
		"a foreign variable": {func(c *acme.DNSCall) { c.Private, c.Variables = true, map[string]string{"LD_PRELOAD": "x"} }, "has no setting LD_PRELOAD"},
		"a file's name": {func(c *acme.DNSCall) {
			c.Private, c.Variables = true, map[string]string{"PDNS_API_KEY_FILE": "/etc/passwd"}
		}, "has no setting"},
		"another provider": {func(c *acme.DNSCall) { c.Provider = "exec" }, "there is no provider exec"},
		"what it may":      {func(c *acme.DNSCall) { c.Private = true }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mine := call
			c.change(&mine)
			answer := called(t, mine)
			if c.says == "" && answer.Error != "" || !strings.Contains(answer.Error, c.says) {
				t.Errorf("it says %q", answer.Error)
			}
		})
	}
}

// serverProgram builds the server's program once.
func serverProgram(t *testing.T) string {
	t.Helper()
	dir, err := builtServer()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "certctl-server")
}

var builtServer = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../.task/handlers-test")
	if err == nil {
		err = local.Build(context.Background(), "..", dir, "./cmd/certctl-server")
	}
	return dir, err
})

// Every row of the table has a constructor, names what lego documents, and needs
// what lego needs: without its secrets nothing is asked.
func TestTheTableOfProvidersIsLegos(t *testing.T) {
	t.Parallel()
	source, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/go-acme/lego/v4").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range acme.LegoProviders() {
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(source)), "providers/dns", p.Name, "*.toml"))
		if err != nil || len(files) != 1 {
			t.Errorf("lego has no provider %s: %v", p.Name, err)
			continue
		}
		documented, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Concat(p.Settings, p.Optional, p.Secrets, p.More) {
			if !regexp.MustCompile(`(?m)^\s+` + name + `\s*=`).Match(documented) {
				t.Errorf("%s: lego knows no %s", p.Name, name)
			}
			if strings.HasSuffix(name, "_FILE") || strings.HasSuffix(name, "_PATH") {
				t.Errorf("%s: %s names a file of the server's", p.Name, name)
			}
		}
		answer := called(t, acme.DNSCall{Provider: p.Name, Domain: "shop.example.com", Answer: "token.thumbprint"})
		if p.All { // the program of these tests has none of them
			if !strings.Contains(answer.Error, "-tags alldns") {
				t.Errorf("%s says %q", p.Name, answer.Error)
			}
			continue
		}
		if answer.Error == "" || strings.Contains(answer.Error, "there is no provider") || strings.Contains(answer.Error, "dial") {
			t.Errorf("%s without secrets says %q", p.Name, answer.Error)
		}
	}
}

// called starts the process of a call.
func called(t *testing.T, call acme.DNSCall) acme.DNSAnswer {
	t.Helper()
	encoded, err := json.Marshal(call)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), serverProgram(t), "dns-provider")
	cmd.Stdin = bytes.NewReader(encoded)
	said, err := cmd.Output()
	var answer acme.DNSAnswer
	if err != nil || json.Unmarshal(said, &answer) != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return answer
}
