package acme

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/handlers/egress"
	"github.com/miekg/dns"
)

// Preflight looks at what a CA will look at, before it is asked.
type Preflight struct {
	// Installation is what our own answers to http-01 carry.
	Installation string
	// Resolver is the DNS server to ask, as address:port; "": the machine's.
	Resolver string
	// Records are what is to be published for the certificate, of any issuer.
	Records []certctl.ValidationRecord
	// Port is where CAs look for proofs over HTTP; "": 80.
	Port string
}

// Bounds of a preflight.
const (
	preflightTime      = 20 * time.Second
	preflightNames     = 8 // at once
	preflightRedirects = 10
	preflightAddresses = 8
)

// flight is one preflight under way.
type flight struct {
	Preflight
	issuer     certctl.ID
	settings   Settings
	policy     egress.Policy
	identities []string // of the CA, as CAA records name it; none: it does not say
}

// Run checks the names of a certificate with an issuer's settings. It asks DNS
// servers, the CA's directory, and port 80 of names that http-01 proves.
func (p Preflight) Run(ctx context.Context, issuer certctl.Issuer, names certctl.Names) ([]certctl.PreflightCheck, error) {
	settings, err := parseSettings(issuer.Settings)
	if err != nil {
		return nil, err
	}
	if p.Port == "" {
		p.Port = "80"
	}
	ctx, cancel := context.WithTimeout(ctx, preflightTime)
	defer cancel()
	f := &flight{Preflight: p, issuer: issuer.ID, settings: settings, policy: egress.Policy{Private: settings.Private}}
	checks := []certctl.PreflightCheck{f.directory(ctx)}
	all := identifiers(names)
	found := make([][]certctl.PreflightCheck, len(all))
	var wait sync.WaitGroup
	room := make(chan struct{}, preflightNames)
	for i, name := range all {
		wait.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			found[i] = f.name(ctx, name)
		})
	}
	wait.Wait()
	return append(checks, slices.Concat(found...)...), nil
}

// directory asks for the CA's directory, and notes what CAA records may call the
// CA (RFC 8555 section 9.7.6).
func (f *flight) directory(ctx context.Context) certctl.PreflightCheck {
	bad := func(message string) certctl.PreflightCheck {
		return certctl.PreflightCheck{Check: "directory", Message: message, Remedy: "the CA must be reachable from the workers, too: see directory, ca_bundle and allow_private_networks"}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.settings.Directory, nil)
	if err != nil {
		return bad("the directory's URL cannot be used")
	}
	response, err := f.policy.Client(f.settings.roots()).Do(request)
	if err != nil {
		return bad("the directory cannot be read: " + certctl.Clip(certctl.ErrorMessage(unwrapped(err)), 200))
	}
	defer func() { _ = response.Body.Close() }()
	var directory struct {
		NewOrder string `json:"newOrder"`
		Meta     struct {
			Identities []string `json:"caaIdentities"`
		} `json:"meta"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(&directory); err != nil || directory.NewOrder == "" {
		return bad(fmt.Sprintf("what answers with status %d is not the directory of an ACME server", response.StatusCode))
	}
	f.identities = directory.Meta.Identities
	return certctl.PreflightCheck{Check: "directory", OK: true, Message: "the CA answers"}
}

// unwrapped is our own error in one of net/http, or that one.
func unwrapped(err error) error {
	var ours *certctl.Error
	if errors.As(err, &ours) {
		return ours
	}
	return certctl.Errorf(certctl.Unavailable, "%s", err)
}

func (f *flight) name(ctx context.Context, name string) []certctl.PreflightCheck {
	rule, ok := f.settings.rule(name)
	if !ok {
		return []certctl.PreflightCheck{{
			Name: name, Check: "rule", Message: "no rule under challenges proves it", Remedy: "wildcards need dns-01, addresses http-01: add a rule to the issuer",
		}}
	}
	var checks []certctl.PreflightCheck
	if _, err := netip.ParseAddr(name); err != nil {
		checks = append(checks, f.caa(ctx, name))
	}
	switch {
	case rule.Type == challengeDNS:
		return append(checks, f.zone(ctx, name, rule))
	case rule.Type == challengePersist:
		return append(checks, f.record(ctx, name))
	case rule.By != nil:
		return append(checks, f.agents(ctx, name, rule))
	}
	return append(checks, f.http(ctx, name)...)
}

// agents looks at the address of a name that agents prove. What would answer there
// cannot be seen: they listen only while the CA is to look.
func (f *flight) agents(ctx context.Context, name string, rule Rule) certctl.PreflightCheck {
	check := certctl.PreflightCheck{Name: name, Check: "address"}
	addresses, err := f.addresses(ctx, name)
	switch {
	case err != nil:
		check.Message, check.Remedy = "its addresses cannot be looked up: "+certctl.ErrorMessage(err), "its zone must exist and its servers answer"
	case len(addresses) == 0:
		check.Message, check.Remedy = "it has no address", rule.Type+" needs a name that leads to the nodes that serve it"
	default:
		check.OK, check.Message = true, fmt.Sprintf("%s is answered by agents, who must have %s; they listen only while the CA looks", rule.Type, addresses[0])
		if len(addresses) > 1 {
			check.Message = fmt.Sprintf("%s is answered by agents, who must have all its %d addresses; they listen only while the CA looks", rule.Type, len(addresses))
		}
	}
	return check
}

// caa looks for the CAA records that count (RFC 8659 section 3): those of the name,
// or else of the closest name above it that has any.
func (f *flight) caa(ctx context.Context, name string) certctl.PreflightCheck {
	check := certctl.PreflightCheck{Name: name, Check: "caa", OK: true, Message: "any CA may issue"}
	base, wildcard := strings.CutPrefix(name, "*.")
	for at := base; at != ""; _, at, _ = strings.Cut(at, ".") {
		answer, err := f.ask(ctx, at, dns.TypeCAA)
		if err != nil {
			return certctl.PreflightCheck{Name: name, Check: "caa", Message: "the CAA records of " + at + " cannot be looked up: " + certctl.ErrorMessage(err),
				Remedy: "CAs do not issue while they cannot: repair the zone"}
		}
		var records []*dns.CAA
		for _, rr := range answer {
			if record, ok := rr.(*dns.CAA); ok {
				records = append(records, record)
			}
		}
		if len(records) > 0 {
			return f.allowed(check, at, records, wildcard)
		}
	}
	return check
}

// allowed judges the CAA records of a name.
func (f *flight) allowed(check certctl.PreflightCheck, at string, records []*dns.CAA, wildcard bool) certctl.PreflightCheck {
	allowed := map[string][]string{}
	for _, record := range records {
		issuer, _, _ := strings.Cut(record.Value, ";")
		tag := strings.ToLower(record.Tag)
		allowed[tag] = append(allowed[tag], strings.ToLower(strings.TrimSpace(issuer)))
	}
	tag := "issue"
	if wildcard && len(allowed["issuewild"]) > 0 {
		tag = "issuewild"
	}
	list := allowed[tag]
	if len(list) == 0 {
		return check
	}
	named := strings.Trim(strings.Join(list, ", "), ", ")
	if named == "" {
		named = "nobody"
	}
	check.Message = "the CAA records of " + at + " allow " + named
	if len(f.identities) == 0 {
		check.Message += "; the CA does not say what it is called there"
		return check
	}
	if !slices.ContainsFunc(f.identities, func(own string) bool { return slices.Contains(list, strings.ToLower(own)) }) {
		check.OK = false
		check.Remedy = "add " + at + ` CAA 0 ` + tag + ` "` + certctl.Clip(f.identities[0], 100) + `"`
	}
	return check
}

// zone looks where a TXT record would stand.
func (f *flight) zone(ctx context.Context, name string, rule Rule) certctl.PreflightCheck {
	check := certctl.PreflightCheck{Name: name, Check: "dns"}
	c, record := f.asker(), recordOf(name)
	target := c.delegated(ctx, record)
	where := record
	if target != record {
		where += ", which leads to " + target + ","
	}
	if _, err := c.shows(ctx, target, ""); err != nil {
		check.Message = where + " cannot be looked up: " + certctl.ErrorMessage(err)
		check.Remedy = "its zone must exist and its servers answer"
		return check
	}
	check.OK, check.Message = true, where+" is written by "+rule.Provider
	return check
}

// asker asks about TXT records as a worker would.
func (f *flight) asker() *CA {
	c := &CA{settings: f.settings, policy: f.policy}
	if f.Resolver != "" && len(c.settings.Servers) == 0 {
		c.settings.Servers = []string{f.Resolver}
	}
	return c
}

// http fetches what a CA would, from every address of a name. There is no token:
// who answers is seen by the header.
func (f *flight) http(ctx context.Context, name string) []certctl.PreflightCheck {
	addresses, err := f.addresses(ctx, name)
	if err != nil || len(addresses) == 0 {
		message := "it has no address"
		if err != nil {
			message = "its addresses cannot be looked up: " + certctl.ErrorMessage(err)
		}
		return []certctl.PreflightCheck{{Name: name, Check: "address", Message: message, Remedy: "http-01 needs a name that leads to this installation from everywhere; or use dns-01"}}
	}
	var checks []certctl.PreflightCheck
	for _, addr := range addresses[:min(len(addresses), preflightAddresses)] {
		checks = append(checks, f.fetch(ctx, name, addr))
	}
	return checks
}

func (f *flight) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{addr}, nil
	}
	var all []netip.Addr
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := f.ask(ctx, name, kind)
		if err != nil {
			return nil, err
		}
		for _, rr := range answer {
			var ip net.IP
			switch record := rr.(type) {
			case *dns.A:
				ip = record.A
			case *dns.AAAA:
				ip = record.AAAA
			}
			if addr, ok := netip.AddrFromSlice(ip); ok {
				all = append(all, addr.Unmap())
			}
		}
	}
	return all, nil
}

func (f *flight) fetch(ctx context.Context, name string, addr netip.Addr) certctl.PreflightCheck {
	check := certctl.PreflightCheck{
		Name: name, Check: "http", Remedy: "have port 80 of the name lead to CERTCTL_ACME_HTTP_LISTEN for /.well-known/acme-challenge/",
	}
	token := rand.Text()
	dialer := f.policy.Dialer()
	client := f.policy.Client(nil)
	client.CheckRedirect = func(to *http.Request, via []*http.Request) error { // CAs follow them, to these ports
		if port := to.URL.Port(); len(via) >= preflightRedirects || port != "" && port != "80" && port != "443" {
			return certctl.Errorf(certctl.Denied, "it redirects to %s, where no CA goes", certctl.Clip(to.URL.Redacted(), 200))
		}
		return nil
	}
	client.Transport = &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // as CAs: a certificate is what is missing
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(address)
			if err == nil && strings.EqualFold(host, name) {
				address = net.JoinHostPort(addr.String(), port)
			}
			return dialer.DialContext(ctx, network, address)
		},
	}
	url := "http://" + net.JoinHostPort(name, f.Port) + "/.well-known/acme-challenge/" + token
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		check.Message = "it cannot be asked over HTTP"
		return check
	}
	response, err := client.Do(request)
	if err != nil {
		check.Message = fmt.Sprintf("%s does not answer on port %s: %s", addr, f.Port, certctl.Clip(certctl.ErrorMessage(unwrapped(err)), 200))
		return check
	}
	_ = response.Body.Close()
	switch installation := response.Header.Get(certctl.ChallengeHeader); installation {
	case f.Installation:
		check.OK, check.Message, check.Remedy = true, fmt.Sprintf("%s answers for this installation", addr), ""
	case "":
		check.Message = fmt.Sprintf("what answers at %s, with status %d, is not certctl", addr, response.StatusCode)
	default:
		check.Message = fmt.Sprintf("the certctl that answers at %s is another installation", addr)
	}
	return check
}

// ask asks for records of a name; a name that does not exist has none.
func (f *flight) ask(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	server, err := f.server()
	if err != nil {
		return nil, err
	}
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(name), kind)
	question.SetEdns0(1232, false)
	client := &dns.Client{Timeout: dnsTimeout}
	answer, _, err := client.ExchangeContext(ctx, question, server)
	if err == nil && answer.Truncated {
		client.Net = "tcp"
		answer, _, err = client.ExchangeContext(ctx, question, server)
	}
	switch {
	case err != nil:
		return nil, certctl.Wrap(certctl.Unavailable, err, "the DNS server %s does not answer", server)
	case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
		return nil, certctl.Errorf(certctl.Unavailable, "the DNS server %s answers %s", server, dns.RcodeToString[answer.Rcode])
	}
	return answer.Answer, nil
}

// server is the DNS server to ask.
func (f *flight) server() (string, error) {
	if f.Resolver != "" {
		return f.Resolver, nil
	}
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(config.Servers) == 0 {
		return "", certctl.Wrap(certctl.Unavailable, err, "this machine knows no DNS server")
	}
	return net.JoinHostPort(config.Servers[0], config.Port), nil
}
