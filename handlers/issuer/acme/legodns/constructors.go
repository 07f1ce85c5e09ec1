package legodns

import (
	"github.com/go-acme/lego/v4/challenge"
	"github.com/go-acme/lego/v4/providers/dns/alidns"
	"github.com/go-acme/lego/v4/providers/dns/azuredns"
	"github.com/go-acme/lego/v4/providers/dns/bunny"
	"github.com/go-acme/lego/v4/providers/dns/cloudns"
	"github.com/go-acme/lego/v4/providers/dns/desec"
	"github.com/go-acme/lego/v4/providers/dns/designate"
	"github.com/go-acme/lego/v4/providers/dns/dnsimple"
	"github.com/go-acme/lego/v4/providers/dns/dnsmadeeasy"
	"github.com/go-acme/lego/v4/providers/dns/domeneshop"
	"github.com/go-acme/lego/v4/providers/dns/dreamhost"
	"github.com/go-acme/lego/v4/providers/dns/duckdns"
	"github.com/go-acme/lego/v4/providers/dns/edgedns"
	"github.com/go-acme/lego/v4/providers/dns/exoscale"
	"github.com/go-acme/lego/v4/providers/dns/gcloud"
	"github.com/go-acme/lego/v4/providers/dns/godaddy"
	"github.com/go-acme/lego/v4/providers/dns/hetzner"
	"github.com/go-acme/lego/v4/providers/dns/inwx"
	"github.com/go-acme/lego/v4/providers/dns/ionos"
	"github.com/go-acme/lego/v4/providers/dns/linode"
	"github.com/go-acme/lego/v4/providers/dns/namecheap"
	"github.com/go-acme/lego/v4/providers/dns/namedotcom"
	"github.com/go-acme/lego/v4/providers/dns/netcup"
	"github.com/go-acme/lego/v4/providers/dns/ns1"
	"github.com/go-acme/lego/v4/providers/dns/pdns"
	"github.com/go-acme/lego/v4/providers/dns/rackspace"
	"github.com/go-acme/lego/v4/providers/dns/route53"
	"github.com/go-acme/lego/v4/providers/dns/scaleway"
	"github.com/go-acme/lego/v4/providers/dns/tencentcloud"
	"github.com/go-acme/lego/v4/providers/dns/vultr"
)

// constructors are those of acme.LegoProviders that every build has.
func constructors() map[string]func() (challenge.Provider, error) {
	return map[string]func() (challenge.Provider, error){
		"alidns":       made(alidns.NewDNSProvider),
		"azuredns":     made(azuredns.NewDNSProvider),
		"bunny":        made(bunny.NewDNSProvider),
		"cloudns":      made(cloudns.NewDNSProvider),
		"desec":        made(desec.NewDNSProvider),
		"designate":    made(designate.NewDNSProvider),
		"dnsimple":     made(dnsimple.NewDNSProvider),
		"dnsmadeeasy":  made(dnsmadeeasy.NewDNSProvider),
		"domeneshop":   made(domeneshop.NewDNSProvider),
		"dreamhost":    made(dreamhost.NewDNSProvider),
		"duckdns":      made(duckdns.NewDNSProvider),
		"edgedns":      made(edgedns.NewDNSProvider),
		"exoscale":     made(exoscale.NewDNSProvider),
		"gcloud":       made(gcloud.NewDNSProvider),
		"godaddy":      made(godaddy.NewDNSProvider),
		"hetzner":      made(hetzner.NewDNSProvider),
		"inwx":         made(inwx.NewDNSProvider),
		"ionos":        made(ionos.NewDNSProvider),
		"linode":       made(linode.NewDNSProvider),
		"namecheap":    made(namecheap.NewDNSProvider),
		"namedotcom":   made(namedotcom.NewDNSProvider),
		"netcup":       made(netcup.NewDNSProvider),
		"ns1":          made(ns1.NewDNSProvider),
		"pdns":         made(pdns.NewDNSProvider),
		"rackspace":    made(rackspace.NewDNSProvider),
		"route53":      made(route53.NewDNSProvider),
		"scaleway":     made(scaleway.NewDNSProvider),
		"tencentcloud": made(tencentcloud.NewDNSProvider),
		"vultr":        made(vultr.NewDNSProvider),
	}
}
