package acme

import (
	"net"
	"net/url"
	"regexp"
	"slices"

	"github.com/certctl/certctl"
)

// dnsKind describes one way to write TXT records.
type dnsKind struct {
	name   string
	config []dnsSetting
	// elsewhere: there is one, and this build does not have it.
	elsewhere bool
	open      func(c *CA, config map[string]string) (provider, error)
}

// dnsSetting is one entry of a rule's config.
type dnsSetting struct {
	name     string
	required bool
	check    func(value string) string // what is wrong, or ""
}

// providers is the table: a new provider is a file and an entry here.
func providers() []dnsKind {
	all := []dnsKind{
		{
			name: "rfc2136", open: openRFC2136, // secret: tsig_secret
			config: []dnsSetting{
				{name: "server", required: true, check: checkServer},
				{name: "zone", required: true, check: checkZone},
				{name: "tsig_key", check: checkZone},
				{name: "tsig_algorithm", check: checkAlgorithm},
			},
		},
		{
			name: "httpreq", open: openHTTPReq, // secret: httpreq_password
			config: []dnsSetting{
				{name: "url", required: true, check: checkURL},
				{name: "username", check: checkText},
			},
		},
		{
			name: "exec", open: openExec,
			config: []dnsSetting{{name: "script", required: true, check: checkScript}},
		},
		{
			name: "acme-dns", open: openAcmeDNS, // secret: acmedns_accounts
			config: []dnsSetting{{name: "url", required: true, check: checkURL}},
		},
		{name: "cloudflare", open: openCloudflare},     // secret: cloudflare_api_token
		{name: "digitalocean", open: openDigitalOcean}, // secret: digitalocean_token
	}
	for _, p := range LegoProviders() {
		all = append(all, legoKind(p))
	}
	return all
}

func providerKind(name string) (dnsKind, bool) {
	all := providers()
	i := slices.IndexFunc(all, func(k dnsKind) bool { return k.name == name })
	if i < 0 {
		return dnsKind{}, false
	}
	return all[i], true
}

func providerNames() []string {
	var names []string
	for _, kind := range providers() {
		if !kind.elsewhere {
			names = append(names, kind.name)
		}
	}
	return names
}

// check refuses a config that the provider cannot work with.
func (k dnsKind) check(bad *certctl.FieldErrors, field string, config map[string]string) {
	for name := range config {
		if !slices.ContainsFunc(k.config, func(s dnsSetting) bool { return s.name == name }) {
			bad.Add(field+"/"+certctl.Clip(name, 40), "the provider %s has no such setting", k.name)
		}
	}
	for _, setting := range k.config {
		value, given := config[setting.name]
		if !given {
			if setting.required {
				bad.Add(field+"/"+setting.name, "is missing")
			}
			continue
		}
		if wrong := setting.check(value); wrong != "" {
			bad.Add(field+"/"+setting.name, "%s", wrong)
		}
	}
}

// scripts are names of files without a path.
var scripts = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func checkScript(value string) string {
	if !scripts.MatchString(value) {
		return "must be the name of a script in the server's folder (letters, digits, dot, underscore, hyphen), not a path"
	}
	return ""
}

func checkServer(value string) string {
	host, port, err := net.SplitHostPort(value)
	if err != nil || host == "" || port == "" {
		return "must be host:port"
	}
	return ""
}

func checkZone(value string) string {
	if _, err := (certctl.Names{DNS: []string{value}}).Normalize(); err != nil {
		return "must be a name like example.com"
	}
	return ""
}

func checkAlgorithm(value string) string {
	if _, ok := tsigAlgorithms[value]; !ok {
		return "must be hmac-sha256, hmac-sha384 or hmac-sha512"
	}
	return ""
}

func checkURL(value string) string {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "must be an https URL without user, query and fragment"
	}
	return ""
}

func checkText(value string) string {
	if value == "" || len(value) > 200 {
		return "must have 1 to 200 characters"
	}
	return ""
}
