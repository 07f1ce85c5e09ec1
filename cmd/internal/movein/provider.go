package movein

// Provider is one of certctl's for dns-01.
type Provider struct {
	Name string
	// Configured says that a rule needs settings beside the name, which a person
	// must give.
	Configured bool
}

// providers are what plugins of the clients are called here. lego's own names are
// certctl's, but lego does not note which one it used.
var providers = map[string]map[string]Provider{
	Certbot: {
		"cloudflare": {Name: "cloudflare"}, "digitalocean": {Name: "digitalocean"}, "dnsimple": {Name: "dnsimple"},
		"dnsmadeeasy": {Name: "dnsmadeeasy"}, "google": {Name: "gcloud"}, "linode": {Name: "linode"}, "nsone": {Name: "ns1"},
		"rfc2136": {Name: "rfc2136", Configured: true}, "route53": {Name: "route53"},
	},
	AcmeSh: {
		"ali": {Name: "alidns"}, "aws": {Name: "route53"}, "azure": {Name: "azuredns", Configured: true}, "bunny": {Name: "bunny"},
		"cf": {Name: "cloudflare"}, "cloudns": {Name: "cloudns"}, "desec": {Name: "desec"}, "dgon": {Name: "digitalocean"},
		"dnsimple": {Name: "dnsimple"}, "duckdns": {Name: "duckdns"}, "dreamhost": {Name: "dreamhost"}, "gcloud": {Name: "gcloud"},
		"gd": {Name: "godaddy"}, "hetzner": {Name: "hetzner"}, "inwx": {Name: "inwx", Configured: true}, "ionos": {Name: "ionos"},
		"linode_v4": {Name: "linode"}, "me": {Name: "dnsmadeeasy"}, "namecheap": {Name: "namecheap", Configured: true},
		"namecom": {Name: "namedotcom", Configured: true}, "netcup": {Name: "netcup", Configured: true}, "nsone": {Name: "ns1"},
		"nsupdate": {Name: "rfc2136", Configured: true}, "openstack": {Name: "designate", Configured: true},
		"pdns": {Name: "pdns", Configured: true}, "rackspace": {Name: "rackspace", Configured: true}, "scaleway": {Name: "scaleway"},
		"tencent": {Name: "tencentcloud"}, "vultr": {Name: "vultr"},
	},
}

// ProviderOf returns certctl's provider for a client's plugin.
func ProviderOf(client, plugin string) (Provider, bool) {
	p, known := providers[client][plugin]
	return p, known
}
