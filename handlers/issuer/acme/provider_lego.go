package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl"
)

// legoTimeout is how long a provider of lego's may take to write one record.
const legoTimeout = 2 * time.Minute

// LegoProvider describes a DNS provider of lego's. Its settings and secrets have
// the names of lego's variables; no others reach it, and none that name files or
// commands of the server, or let it use what the server's machine may.
type LegoProvider struct {
	Name     string
	Title    string
	Settings []string // under config, needed
	Optional []string // under config
	Secrets  []string // needed
	More     []string // secrets that may be there
	// Whole says that the provider removes all values of a record, rather than the
	// one that is given.
	Whole bool
	// All says that only builds with the tag alldns have it.
	All bool
}

// LegoProviders is the table of those of lego's providers that remember nothing
// between presenting and removing: any worker can go on after any other. The
// constructors are in package legodns.
func LegoProviders() []LegoProvider {
	return append([]LegoProvider{
		{Name: "alidns", Title: "Alibaba Cloud DNS", Optional: []string{"ALICLOUD_REGION_ID", "ALICLOUD_LINE"}, Secrets: []string{"ALICLOUD_ACCESS_KEY", "ALICLOUD_SECRET_KEY"}, More: []string{"ALICLOUD_SECURITY_TOKEN"}, Whole: true},
		{Name: "azuredns", Title: "Azure DNS", Settings: []string{"AZURE_CLIENT_ID", "AZURE_TENANT_ID"}, Optional: []string{"AZURE_ENVIRONMENT", "AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_PRIVATE_ZONE", "AZURE_ZONE_NAME"}, Secrets: []string{"AZURE_CLIENT_SECRET"}, Whole: true},
		{Name: "bunny", Title: "Bunny", Secrets: []string{"BUNNY_API_KEY"}, Whole: true},
		{Name: "cloudns", Title: "ClouDNS", Optional: []string{"CLOUDNS_AUTH_ID", "CLOUDNS_SUB_AUTH_ID"}, Secrets: []string{"CLOUDNS_AUTH_PASSWORD"}, Whole: true},
		{Name: "desec", Title: "deSEC", Secrets: []string{"DESEC_TOKEN"}},
		{Name: "designate", Title: "OpenStack Designate", Settings: []string{"OS_AUTH_URL"}, Optional: []string{"OS_USERNAME", "OS_USER_ID", "OS_APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_NAME", "OS_PROJECT_NAME", "OS_PROJECT_ID", "OS_REGION_NAME", "OS_TENANT_NAME", "DESIGNATE_ZONE_NAME"}, More: []string{"OS_PASSWORD", "OS_APPLICATION_CREDENTIAL_SECRET"}, Whole: true},
		{Name: "dnsimple", Title: "DNSimple", Secrets: []string{"DNSIMPLE_OAUTH_TOKEN"}, Whole: true},
		{Name: "dnsmadeeasy", Title: "DNS Made Easy", Optional: []string{"DNSMADEEASY_SANDBOX"}, Secrets: []string{"DNSMADEEASY_API_KEY", "DNSMADEEASY_API_SECRET"}, Whole: true},
		{Name: "domeneshop", Title: "Domeneshop", Secrets: []string{"DOMENESHOP_API_TOKEN", "DOMENESHOP_API_SECRET"}},
		{Name: "dreamhost", Title: "DreamHost", Secrets: []string{"DREAMHOST_API_KEY"}},
		{Name: "duckdns", Title: "Duck DNS", Secrets: []string{"DUCKDNS_TOKEN"}, Whole: true},
		{Name: "edgedns", Title: "Akamai Edge DNS", Settings: []string{"AKAMAI_HOST"}, Optional: []string{"AKAMAI_ACCOUNT_SWITCH_KEY"}, Secrets: []string{"AKAMAI_CLIENT_TOKEN", "AKAMAI_CLIENT_SECRET", "AKAMAI_ACCESS_TOKEN"}},
		{Name: "exoscale", Title: "Exoscale", Secrets: []string{"EXOSCALE_API_KEY", "EXOSCALE_API_SECRET"}},
		{Name: "gcloud", Title: "Google Cloud DNS", Optional: []string{"GCE_PROJECT", "GCE_ZONE_ID", "GCE_ALLOW_PRIVATE_ZONE"}, Secrets: []string{"GCE_SERVICE_ACCOUNT"}, Whole: true},
		{Name: "godaddy", Title: "GoDaddy", Secrets: []string{"GODADDY_API_KEY", "GODADDY_API_SECRET"}},
		{Name: "hetzner", Title: "Hetzner", Secrets: []string{"HETZNER_API_TOKEN"}},
		{Name: "inwx", Title: "INWX", Settings: []string{"INWX_USERNAME"}, Optional: []string{"INWX_SANDBOX"}, Secrets: []string{"INWX_PASSWORD"}, More: []string{"INWX_SHARED_SECRET"}},
		{Name: "ionos", Title: "IONOS", Secrets: []string{"IONOS_API_KEY"}},
		{Name: "linode", Title: "Linode (Akamai)", Secrets: []string{"LINODE_TOKEN"}},
		{Name: "namecheap", Title: "Namecheap", Settings: []string{"NAMECHEAP_API_USER"}, Optional: []string{"NAMECHEAP_SANDBOX"}, Secrets: []string{"NAMECHEAP_API_KEY"}, Whole: true},
		{Name: "namedotcom", Title: "Name.com", Settings: []string{"NAMECOM_USERNAME"}, Secrets: []string{"NAMECOM_API_TOKEN"}, Whole: true},
		{Name: "netcup", Title: "netcup", Settings: []string{"NETCUP_CUSTOMER_NUMBER"}, Secrets: []string{"NETCUP_API_KEY", "NETCUP_API_PASSWORD"}},
		{Name: "ns1", Title: "NS1 (IBM)", Secrets: []string{"NS1_API_KEY"}, Whole: true},
		{Name: "pdns", Title: "PowerDNS", Settings: []string{"PDNS_API_URL"}, Optional: []string{"PDNS_SERVER_NAME", "PDNS_API_VERSION"}, Secrets: []string{"PDNS_API_KEY"}},
		{Name: "rackspace", Title: "Rackspace", Settings: []string{"RACKSPACE_USER"}, Secrets: []string{"RACKSPACE_API_KEY"}, Whole: true},
		{Name: "route53", Title: "Amazon Route 53", Optional: []string{"AWS_REGION", "AWS_HOSTED_ZONE_ID", "AWS_ASSUME_ROLE_ARN", "AWS_EXTERNAL_ID", "AWS_PRIVATE_ZONE"}, Secrets: []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}},
		{Name: "scaleway", Title: "Scaleway", Optional: []string{"SCW_PROJECT_ID", "SCW_ACCESS_KEY"}, Secrets: []string{"SCW_SECRET_KEY"}},
		{Name: "tencentcloud", Title: "Tencent Cloud DNS", Optional: []string{"TENCENTCLOUD_REGION"}, Secrets: []string{"TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"}, More: []string{"TENCENTCLOUD_SESSION_TOKEN"}, Whole: true},
		{Name: "vultr", Title: "Vultr", Secrets: []string{"VULTR_API_KEY"}, Whole: true},
	}, moreProviders()...)
}

// NotInThisBuild says why a provider cannot be used, and what has it.
func NotInThisBuild(name string) string {
	return "the provider " + name + " is only in builds with all of lego's DNS providers: build certctl-server with -tags alldns, or use one of the providers that every build has"
}

// legoSecrets are the names of all their secrets.
func legoSecrets() []string {
	var names []string
	for _, p := range LegoProviders() {
		for _, name := range slices.Concat(p.Secrets, p.More) {
			if !slices.Contains(names, name) { // the same account serves two of a vendor's
				names = append(names, name)
			}
		}
	}
	return names
}

// legoKind makes a row of the table of providers.
func legoKind(p LegoProvider) dnsKind {
	kind := dnsKind{name: p.Name, elsewhere: p.All && !allDNS, open: func(c *CA, config map[string]string) (provider, error) { return openLego(c, p, config) }}
	for _, name := range p.Settings {
		kind.config = append(kind.config, dnsSetting{name: name, required: true, check: checkLego(name)})
	}
	for _, name := range p.Optional {
		kind.config = append(kind.config, dnsSetting{name: name, check: checkLego(name)})
	}
	return kind
}

func checkLego(name string) func(string) string {
	if strings.HasSuffix(name, "_URL") {
		return checkAPI
	}
	return checkText
}

// checkAPI takes HTTP without TLS, too, inside a private network: PowerDNS's API
// has no other.
func checkAPI(value string) string {
	u, err := url.Parse(value)
	if err == nil && u.Scheme == "http" {
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil && (addr.IsLoopback() || addr.IsPrivate()) {
			u.Scheme = "https"
			return checkURL(u.String())
		}
		return "must be https, or http to an address of a private network"
	}
	return checkURL(value)
}

// DNSCall is one use of a provider of lego's, which takes place in a process of
// its own: its settings are that process's variables, so that two issuers cannot
// get each other's, and what a provider does wrong ends with it. The call is its
// standard input, so that no secret is in a command line or an environment that
// others may see; its standard output is a DNSAnswer.
type DNSCall struct {
	Provider  string            `json:"provider"`
	Remove    bool              `json:"remove"`
	Domain    string            `json:"domain"`            // without *.
	Answer    string            `json:"key_authorization"` // what the record's value is the digest of
	Variables map[string]string `json:"variables"`
	Servers   []string          `json:"servers,omitempty"` // DNS servers to ask about zones; none: the machine's
	Private   bool              `json:"private,omitempty"` // it may reach private networks
	Roots     string            `json:"roots,omitempty"`   // PEM, of its API; "": the system's
}

// DNSAnswer is what came of a call.
type DNSAnswer struct {
	Error string `json:"error,omitempty"`
}

// lego is a provider of lego's with an issuer's settings.
type lego struct {
	command []string
	call    DNSCall
	secrets []string // values that no message may hold
}

func openLego(c *CA, p LegoProvider, config map[string]string) (provider, error) {
	if len(c.dnsCommand) == 0 {
		return nil, certctl.Errorf(certctl.Invalid, "this process runs no DNS providers")
	}
	l := lego{command: c.dnsCommand, call: DNSCall{
		Provider: p.Name, Variables: map[string]string{}, Servers: c.settings.Servers, Private: c.settings.Private, Roots: c.settings.CABundle,
	}}
	for name, value := range config { // checked with the settings
		l.call.Variables[name] = value
	}
	for _, name := range slices.Concat(p.Secrets, p.More) {
		value := c.secret[name]
		if value == "" {
			if slices.Contains(p.Secrets, name) {
				return nil, certctl.Errorf(certctl.Invalid, "the secret %s is not set", name)
			}
			continue
		}
		l.call.Variables[name], l.secrets = value, append(l.secrets, value)
	}
	return l, nil
}

func (l lego) Present(ctx context.Context, p proof) error { return l.run(ctx, p, false) }

func (l lego) Remove(ctx context.Context, p proof) error { return l.run(ctx, p, true) }

func (l lego) run(ctx context.Context, p proof, remove bool) error {
	call := l.call
	call.Remove, call.Domain, call.Answer = remove, strings.TrimPrefix(p.Name, "*."), p.Answer
	encoded, err := json.Marshal(call)
	if err != nil {
		return certctl.Wrap(certctl.Internal, err, "the call cannot be encoded")
	}
	ctx, cancel := context.WithTimeout(ctx, legoTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, l.command[0], l.command[1:]...) //nolint:gosec // our own program
	cmd.Env = []string{}                                            // nothing of ours is the provider's
	cmd.Stdin = bytes.NewReader(encoded)
	var out bytes.Buffer
	cmd.Stdout = &limited{to: &out, left: 16 << 10}
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return certctl.Wrap(certctl.Unavailable, errors.Join(err, ctx.Err()), "it did not answer within %s", legoTimeout)
	}
	var answer DNSAnswer
	if e := json.Unmarshal(out.Bytes(), &answer); e != nil {
		return certctl.Wrap(certctl.Unavailable, errors.Join(err, e), "its process ended without an answer")
	}
	if answer.Error != "" {
		return certctl.Errorf(certctl.Unavailable, "%s", certctl.Clip(l.redact(answer.Error), 300))
	}
	return nil
}

// redact takes secrets out of a message: some providers have them in URLs.
func (l lego) redact(message string) string {
	for _, secret := range l.secrets {
		message = strings.ReplaceAll(message, secret, "[secret]")
	}
	return message
}
