package handlers_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/certctl/certctl/handlers/issuer/acme"
	"github.com/certctl/certctl/handlers/issuer/acme/acmetest"
)

// acmeDNS does what acme-dns's API says, with the records of the tests' DNS: each
// registration has one name and its last two values.
type acmeDNS struct {
	dns *acmetest.DNS

	mu      sync.Mutex // guards values
	values  []string
	updates int
}

const acmeDNSName = "d420c923-bbd7-4056-ab64-c3ca54c9b3cf.auth.example.net"

var txtOfACME = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

func (a *acmeDNS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var update struct{ Subdomain, Txt string }
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/update":
		w.WriteHeader(http.StatusNotFound)
	case r.Header.Get("X-Api-User") != "user" || r.Header.Get("X-Api-Key") != "password":
		w.WriteHeader(http.StatusUnauthorized)
	case json.NewDecoder(r.Body).Decode(&update) != nil || update.Subdomain+".auth.example.net" != acmeDNSName || !txtOfACME.MatchString(update.Txt):
		w.WriteHeader(http.StatusBadRequest)
	default:
		a.set(update.Txt)
		_ = json.NewEncoder(w).Encode(map[string]string{"txt": update.Txt})
	}
}

func (a *acmeDNS) set(value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.updates++
	a.values = append(a.values, value)
	a.dns.Add(acmeDNSName, value)
	if len(a.values) > 2 {
		a.dns.Remove(acmeDNSName, a.values[0])
		a.values = a.values[1:]
	}
}

// A zone that only has a CNAME to an acme-dns server is proven there, a wildcard
// beside its base; where the CNAME is missing, the order says which.
func TestNamesAreProvenThroughAcmeDNS(t *testing.T) {
	t.Parallel()
	server := &acmeDNS{}
	front := httptest.NewTLSServer(server)
	t.Cleanup(front.Close)
	w := newACME(t, acmetest.Options{}, func(s *acme.Settings) {
		s.CABundle += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}))
		s.Rules = []acme.Rule{{Type: "dns-01", Provider: "acme-dns", Config: map[string]string{"url": front.URL}}}
	})
	server.dns = w.pebble.DNS
	w.pebble.DNS.Delegate("_acme-challenge.shop.example.com", acmeDNSName)
	c, _ := w.orderFor("shop", "shop.example.com", "*.shop.example.com")
	r := w.worker("a", immortal)
	w.until("issued", always(r), w.issued(c))
	if server.updates != 2 {
		t.Errorf("%d updates", server.updates)
	}
	other, _ := w.orderFor("other", "other.example.com")
	w.until("refused for now", always(r), func() bool { return w.order(other).ErrorCode == "acme_dns_provider" })
	if message := w.order(other).Message; !strings.Contains(message, "_acme-challenge.other.example.com is no name of the registrations") {
		t.Errorf("it says %q", message)
	}
	if server.updates != 2 {
		t.Errorf("%d updates", server.updates)
	}
	w.consistent()
}
