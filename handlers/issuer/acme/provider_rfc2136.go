package acme

import (
	"context"
	"time"

	"github.com/certctl/certctl"
	"github.com/miekg/dns"
)

// tsigAlgorithms are the ways to sign an update (RFC 8945 section 6).
var tsigAlgorithms = map[string]string{
	"": dns.HmacSHA256, "hmac-sha256": dns.HmacSHA256, "hmac-sha384": dns.HmacSHA384, "hmac-sha512": dns.HmacSHA512,
}

const (
	recordTTL  = 60 // seconds
	dnsTimeout = 10 * time.Second
)

// rfc2136 sends updates to a zone's primary server. Unlike lego's provider, it
// adds to what stands in a record: replacing it would remove the proof of a
// wildcard's base name.
type rfc2136 struct {
	client       *dns.Client
	server, zone string
	key          string // of TSIG; "": updates are not signed
	algorithm    string
}

func openRFC2136(c *CA, config map[string]string) (provider, error) {
	r := rfc2136{
		server: config["server"], zone: dns.Fqdn(config["zone"]), algorithm: tsigAlgorithms[config["tsig_algorithm"]],
		client: &dns.Client{Net: "tcp", Timeout: dnsTimeout, Dialer: c.policy.Dialer()},
	}
	if name := config["tsig_key"]; name != "" {
		if c.secret["tsig_secret"] == "" {
			return nil, certctl.Errorf(certctl.Invalid, "tsig_key is set and the secret tsig_secret is not")
		}
		r.key = dns.CanonicalName(name)
		r.client.TsigSecret = map[string]string{r.key: c.secret["tsig_secret"]}
	}
	return r, nil
}

func (r rfc2136) Present(ctx context.Context, p proof) error {
	return r.update(ctx, (*dns.Msg).Insert, p.Record, p.Value)
}

func (r rfc2136) Remove(ctx context.Context, p proof) error {
	return r.update(ctx, (*dns.Msg).Remove, p.Record, p.Value)
}

func (r rfc2136) update(ctx context.Context, change func(*dns.Msg, []dns.RR), record, value string) error {
	name := dns.Fqdn(record)
	if !dns.IsSubDomain(r.zone, name) {
		return certctl.Errorf(certctl.Invalid, "%s is not in the zone %s", record, r.zone)
	}
	message := new(dns.Msg)
	message.SetUpdate(r.zone)
	change(message, []dns.RR{&dns.TXT{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: recordTTL}, Txt: []string{value},
	}})
	if r.key != "" {
		message.SetTsig(r.key, r.algorithm, 300, time.Now().Unix())
	}
	answer, _, err := r.client.ExchangeContext(ctx, message, r.server)
	if err != nil {
		return certctl.Wrap(certctl.Unavailable, err, "the DNS server %s does not take the update", r.server)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return certctl.Errorf(certctl.Unavailable, "the DNS server %s refuses the update: %s", r.server, dns.RcodeToString[answer.Rcode])
	}
	return nil
}
