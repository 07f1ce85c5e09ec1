package acme

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// Kind is the name of this kind of issuer.
const Kind = "acme"

// The challenges that can be met.
const (
	challengeHTTP = certctl.ProofHTTP // RFC 8555 section 8.3
	challengeDNS  = "dns-01"          // RFC 8555 section 8.4
	challengeTLS  = certctl.ProofTLS  // RFC 8737: by agents only
)

// directories are CAs that may be named instead of their directory's URL.
var directories = map[string]string{
	"letsencrypt":         "https://acme-v02.api.letsencrypt.org/directory",
	"letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
	"zerossl":             "https://acme.zerossl.com/v2/DV90",
	"google":              "https://dv.acme-v02.api.pki.goog/directory",
}

// Secrets are the names of the settings that are sealed.
var Secrets = append([]string{"eab_hmac", "tsig_secret", "httpreq_password", "acmedns_accounts", "cloudflare_api_token", "digitalocean_token"}, legoSecrets()...)

// Settings of an issuer of this kind.
type Settings struct {
	Directory string   `json:"directory"`               // URL, or a name of directories
	Terms     bool     `json:"terms_of_service_agreed"` // the CA's terms are agreed to by whoever sets this
	Contact   []string `json:"contact,omitempty"`       // e-mail addresses
	EABKeyID  string   `json:"eab_key_id,omitempty"`    // external account binding; its key is the secret eab_hmac
	// EABService is a URL where such a binding is given to who names the first contact;
	// none: that of eabServices.
	EABService string   `json:"eab_service,omitempty"`
	CABundle   string   `json:"ca_bundle,omitempty"` // PEM: roots of the CA's own server
	Private    bool     `json:"allow_private_networks,omitempty"`
	Hosts      []string `json:"allowed_hosts,omitempty"`   // besides the directory's own, host or host:port
	Profile    string   `json:"profile,omitempty"`         // of the CA: classic, tlsserver, shortlived
	Chain      string   `json:"preferred_chain,omitempty"` // common name that the topmost certificate names as its issuer
	Rules      []Rule   `json:"challenges,omitempty"`      // the first that fits proves a name; none: http-01 for all
	Servers    []string `json:"dns_servers,omitempty"`     // that must show a TXT record; none: the zone's own
	// Spread is how much later the CA is told: what it asks may not be what we ask.
	Spread  certctl.Duration `json:"dns_propagation_wait,omitzero"`
	Budgets Budgets          `json:"budgets,omitzero"`
	Staging string           `json:"staging_directory,omitempty"` // URL or name, where certificates are tested; none: that of stagings
}

// maxSpread bounds the wait for the DNS: proofs end with their order.
const maxSpread = time.Hour

// Rule says how names are proven.
type Rule struct {
	Names    []string          `json:"names,omitempty"` // example.com, *.example.com for all below it; none: all
	Type     string            `json:"type"`
	Provider string            `json:"provider,omitempty"` // with dns-01: a row of the table providers
	Config   map[string]string `json:"config,omitempty"`   // its settings
	// By are the agents that answer on their nodes; none: our own listener does.
	By *certctl.Answerers `json:"answered_by,omitempty"`
	// Until is when records of dns-persist-01 that are published for it end; zero: never.
	Until time.Time `json:"persist_until,omitzero"`
}

// Validate refuses settings that cannot work, with a field for each.
func Validate(raw json.RawMessage) error { return validate(raw, time.Now()) }

// validate refuses, of what is set now, also what time would make of it: an issuer
// whose records have ended since goes on with everything else.
func validate(raw json.RawMessage, now time.Time) error {
	s, err := parseSettings(raw)
	if err != nil {
		return err
	}
	var bad certctl.FieldErrors
	for i, rule := range s.Rules {
		if !rule.Until.IsZero() && !rule.Until.After(now) {
			bad.Add("/settings/challenges/"+strconv.Itoa(i)+"/persist_until", "has passed: a record that says so proves nothing")
		}
	}
	return bad.Err()
}

// Directory returns the URL of the directory that settings mean: an account is
// good there.
func Directory(raw json.RawMessage) (string, error) {
	s, err := parseSettings(raw)
	return s.Directory, err
}

// parseSettings reads settings and fills in what they leave out.
func parseSettings(raw json.RawMessage) (Settings, error) {
	var s Settings
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return s, certctl.InvalidField("/settings", "not the settings of an ACME issuer: %s", certctl.Clip(err.Error(), 200))
	}
	if known, ok := directories[s.Directory]; ok {
		s.Directory = known
	}
	if known, ok := directories[s.Staging]; ok {
		s.Staging = known
	}
	if len(s.Rules) == 0 {
		s.Rules = []Rule{{Type: challengeHTTP}}
	}
	return s, s.check()
}

func (s Settings) check() error {
	var bad certctl.FieldErrors
	s.checkServer(&bad)
	if !s.Terms {
		bad.Add("/settings/terms_of_service_agreed", "must be true: read the CA's terms of service and agree to them")
	}
	for i, contact := range s.Contact {
		if _, err := (certctl.Names{Email: []string{contact}}).Normalize(); err != nil || i >= 10 {
			bad.Add("/settings/contact/"+strconv.Itoa(i), "is not an e-mail address, or one too many")
		}
	}
	if s.EABService != "" {
		if wrong := checkURL(s.EABService); wrong != "" {
			bad.Add("/settings/eab_service", "%s", wrong)
		}
	}
	if s.CABundle != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(s.CABundle)) {
		bad.Add("/settings/ca_bundle", "holds no PEM certificate")
	}
	for i, server := range s.Servers {
		if _, err := netip.ParseAddrPort(server); err != nil {
			bad.Add("/settings/dns_servers/"+strconv.Itoa(i), "must be an address with a port, like 192.0.2.1:53")
		}
	}
	if s.Spread < 0 || time.Duration(s.Spread) > maxSpread {
		bad.Add("/settings/dns_propagation_wait", "must be a duration like 30s, at most %s", maxSpread)
	}
	s.Budgets.check(&bad)
	for i, rule := range s.Rules {
		rule.check(&bad, "/settings/challenges/"+strconv.Itoa(i))
	}
	return bad.Err()
}

func (s Settings) checkServer(bad *certctl.FieldErrors) {
	for field, directory := range map[string]string{"directory": s.Directory, "staging_directory": s.Staging} {
		u, err := url.Parse(directory)
		if field == "staging_directory" && directory == "" {
			continue
		}
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
			bad.Add("/settings/"+field, "must be an https URL, or one of letsencrypt, letsencrypt-staging, zerossl, google")
		}
	}
	if s.Staging != "" && sameDirectory(s.Directory, s.Staging) && stagings[s.Directory] != s.Directory {
		bad.Add("/settings/staging_directory", "is the directory itself, which would count the tests: name the CA's staging or test directory, or leave it out")
	}
	for i, host := range s.Hosts {
		if u, err := url.Parse("https://" + host); err != nil || u.Host != host || host == "" || u.Hostname() == "" {
			bad.Add("/settings/allowed_hosts/"+strconv.Itoa(i), "must be host or host:port")
		}
	}
}

func (r Rule) check(bad *certctl.FieldErrors, field string) {
	for i, name := range r.Names {
		if _, err := (certctl.Names{DNS: []string{strings.TrimPrefix(name, "*.")}}).Normalize(); err != nil {
			bad.Add(field+"/names/"+strconv.Itoa(i), "must be a DNS name, or *. and one")
		}
	}
	if r.By != nil && !r.By.Bound {
		r.checkAgents(bad, field+"/answered_by")
	}
	if !r.Until.IsZero() && r.Type != challengePersist {
		bad.Add(field+"/persist_until", "goes with dns-persist-01 only")
	}
	switch r.Type {
	case challengeHTTP, challengeTLS, challengePersist:
		if r.Provider != "" || len(r.Config) > 0 {
			bad.Add(field+"/provider", "goes with dns-01 only")
		}
		if r.Type == challengeTLS && r.By == nil {
			bad.Add(field+"/answered_by", "is needed with tls-alpn-01: agents, or a list of names of agents")
		}
		if r.Type == challengePersist && r.By != nil {
			bad.Add(field+"/answered_by", "goes with http-01 and tls-alpn-01 only: a record that stands answers for dns-persist-01")
		}
	case challengeDNS:
		if r.By != nil {
			bad.Add(field+"/answered_by", "goes with http-01 and tls-alpn-01 only: a provider answers for dns-01")
		}
		kind, known := providerKind(r.Provider)
		if !known {
			bad.Add(field+"/provider", "must be one of %s", strings.Join(providerNames(), ", "))
			return
		}
		if kind.elsewhere {
			bad.Add(field+"/provider", "%s", NotInThisBuild(kind.name))
			return
		}
		kind.check(bad, field+"/config", r.Config)
	default:
		bad.Add(field+"/type", "must be http-01, dns-01, tls-alpn-01 or dns-persist-01")
	}
}

// maxAnswerers bounds who answers for a name.
const maxAnswerers = 100

// checkAgents checks the agents that are named.
func (r Rule) checkAgents(bad *certctl.FieldErrors, field string) {
	if n := len(r.By.Names); n == 0 || n > maxAnswerers {
		bad.Add(field, "must be agents, or name 1 to %d agents", maxAnswerers)
		return
	}
	for i, name := range r.By.Names {
		if err := certctl.CheckObjectName(name); err != nil {
			bad.Add(field+"/"+strconv.Itoa(i), "is no name of an agent")
		}
	}
}

// covers reports whether the rule may prove a name, which is an address or a DNS
// name, possibly a wildcard. Wildcards are proven by DNS only, addresses by anything
// else.
func (r Rule) covers(name string) bool {
	base, wildcard := strings.CutPrefix(name, "*.")
	isIP := net.ParseIP(name) != nil
	byDNS := r.Type == challengeDNS || r.Type == challengePersist
	if wildcard && !byDNS || isIP && byDNS {
		return false
	}
	if len(r.Names) == 0 {
		return true
	}
	for _, pattern := range r.Names {
		below, all := strings.CutPrefix(pattern, "*.")
		if !all && base == pattern || all && strings.HasSuffix(base, "."+below) || all && wildcard && base == below {
			return true
		}
	}
	return false
}

// rule returns the rule that proves a name.
func (s Settings) rule(name string) (Rule, bool) {
	for _, r := range s.Rules {
		if r.covers(name) {
			return r, true
		}
	}
	return Rule{}, false
}

// allowed are the hosts that requests go to: the directory's, and those that the
// settings add. A directory cannot send us elsewhere.
func (s Settings) allowed(host string) bool {
	u, err := url.Parse(s.Directory)
	if err == nil && sameHost(host, u.Host) {
		return true
	}
	for _, h := range s.Hosts {
		if sameHost(host, h) {
			return true
		}
	}
	return false
}

func sameHost(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, ":443"), strings.TrimSuffix(b, ":443"))
}

// sameDirectory reports whether two URLs lead to one directory.
func sameDirectory(a, b string) bool {
	one, err := url.Parse(a)
	other, otherErr := url.Parse(b)
	return err == nil && otherErr == nil && sameHost(one.Host, other.Host) &&
		strings.TrimSuffix(one.EscapedPath(), "/") == strings.TrimSuffix(other.EscapedPath(), "/") && one.RawQuery == other.RawQuery
}

func (s Settings) roots() *x509.CertPool {
	if s.CABundle == "" {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.CABundle)) // checked
	return pool
}
